"""The state of streams between steps: convolution inputs and attention windows (docs/model.md, section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.codec.model.transformer import WindowedTransformer, WindowMemory

POSITIONS_PER_FRAME = 2
"""The transformers run at 25 Hz, frames come at 12.5 Hz."""


@dataclass
class StreamState:
    """The state of W streams of one direction, allocated once. Steps change it in place."""

    conv_rows: torch.Tensor
    """[W, state width] fp32: the last input rows of every convolution, in the order in which they run."""
    window: WindowMemory
    step_frames: int
    """The most frames one step may bring a stream."""

    @classmethod
    def new(cls, transformer: WindowedTransformer, state_width: int, slots: int, step_frames: int) -> StreamState:
        """State for `slots` streams. `state_width`: the floats that the convolutions keep for each."""
        window = transformer.new_memory(slots, POSITIONS_PER_FRAME * step_frames)
        return cls(torch.zeros(slots, state_width, device=window.positions.device), window, step_frames)

    @property
    def slots(self) -> int:
        """The number of streams, W."""
        return self.conv_rows.shape[0]

    def reset(self, slot: int) -> None:
        """Make `slot` ready for a new stream.

        Its attention ring is not cleared: rows of positions that have not run are masked.
        """
        self.conv_rows[slot].zero_()
        self.window.positions[slot].zero_()
