"""What streams remember between steps: convolution inputs and attention windows (docs/model.md, section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.codec.model.transformer import WindowedTransformer, WindowMemory

POSITIONS_PER_FRAME = 2
"""The transformers run at 25 Hz, frames come at 12.5 Hz."""


@dataclass
class StreamState:
    """The memory of W streams of one direction, allocated once. Steps change it in place."""

    tails: torch.Tensor
    """[W, carried] fp32: the last inputs of every convolution, in the order in which they run."""
    window: WindowMemory
    step_frames: int
    """The most frames one step may bring a stream."""

    @classmethod
    def new(cls, transformer: WindowedTransformer, carried: int, slots: int, step_frames: int) -> StreamState:
        """Memory for `slots` streams whose convolutions carry `carried` floats each."""
        window = transformer.new_memory(slots, POSITIONS_PER_FRAME * step_frames)
        return cls(torch.zeros(slots, carried, device=window.positions.device), window, step_frames)

    @property
    def slots(self) -> int:
        """Streams there is room for, W."""
        return self.tails.shape[0]

    def reset(self, slot: int) -> None:
        """Make `slot` ready for a new stream. Its ring is not cleared: rows of positions not yet run are masked."""
        self.tails[slot].zero_()
        self.window.positions[slot].zero_()
