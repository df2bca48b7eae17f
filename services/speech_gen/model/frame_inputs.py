"""What one frame step is told: who takes part, in which shape, and what they bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from services.runtime.graphs.staging import Block, StagingBuffer
from services.runtime.kvcache.attention_padded import Plan
from services.runtime.kvcache.attention_ragged import FlatShape, fill_plan
from services.runtime.kvcache.paged_kv import PagedKV

if TYPE_CHECKING:
    from services.speech_gen.model.generator import Thought


@dataclass(frozen=True, order=True)
class Shape:
    """A step of up to `streams` streams, up to `fed` of them with a thought."""

    streams: int
    fed: int

    @property
    def rows(self) -> int:
        """Backbone rows: one a stream and two more a thought."""
        return self.streams + 2 * self.fed

    @property
    def flat(self) -> FlatShape:
        """Of its attention."""
        return FlatShape.of_steps(self.streams, self.rows)


class FrameMemory:
    """Room for the inputs of any step of `slots` streams."""

    def __init__(self, kv: PagedKV, codebooks: int, width: int, dtype: torch.dtype) -> None:
        slots, device = kv.slots, kv.k.device
        plan = FlatShape.of_steps(slots, 3 * slots).elements(kv)
        self.kv = kv
        self.codebooks = codebooks
        self.integers = Block(plan + 7 * slots, torch.int64, device)
        self.uniforms = Block(slots * codebooks, torch.float32, device)
        self.hidden = Block(slots * width, dtype, device)
        self.width = width


class FrameInputs:
    """The inputs of one step, in the memory that all steps share.

    On the device: `slots` int64 [W], `opening` int64 [W] (1 where the zero row stands in for a previous frame), `last`
    int64 [W] (each stream's last row), `tokens` int64 [F], `order` int64 [R] (which of all previous frames, hidden
    states and tokens becomes each row), `uniforms` float32 [W, K], `hidden` [F, D]; if padded, those of a `FlatPlan`.
    """

    def __init__(self, memory: FrameMemory, shape: Shape, *, padded: bool) -> None:
        self.shape = shape
        self._memory = memory
        self._padded = padded
        self._integers = StagingBuffer(
            memory.integers,
            slots=(shape.streams,),
            opening=(shape.streams,),
            last=(shape.streams,),
            tokens=(shape.fed,),
            order=(shape.rows,),
            **(shape.flat.inputs(memory.kv) if padded else {}),
        )
        self._uniforms = StagingBuffer(memory.uniforms, uniforms=(shape.streams, memory.codebooks))

    @property
    def there(self) -> dict[str, Tensor]:
        """The integers, on the device."""
        return self._integers.there

    @property
    def uniforms(self) -> Tensor:
        """float32 [W, K] on the device."""
        return self._uniforms.there["uniforms"]

    @property
    def hidden(self) -> Tensor:
        """[F, D] on the device."""
        count = self.shape.fed
        return self._memory.hidden.there[: count * self._memory.width].view(count, self._memory.width)

    def fill(
        self,
        slots: Sequence[int],
        opening: np.ndarray,
        uniforms: np.ndarray,
        thoughts: Sequence[Thought],
        plan: Plan | None,
    ) -> None:
        """The streams in `slots`, the last of which bring `thoughts`; what the shape has beyond them is padding.

        Their rows are A(previous frame) alone, or that, h and E(t).
        """
        integers, shape = self._integers.host, self.shape
        width, fed = len(slots), len(thoughts)
        alone = width - fed
        integers["slots"][:width] = slots
        integers["slots"][width:] = self._memory.kv.slots  # the slot of padding
        integers["opening"][:width] = opening
        integers["opening"][width:] = 1
        integers["last"][:alone] = np.arange(alone)
        integers["last"][alone:width] = np.arange(alone + 2, alone + 3 * fed, 3)
        integers["last"][width:] = 0
        integers["tokens"][:fed] = [thought.token_id for thought in thoughts]
        integers["tokens"][fed:] = 0
        order, triples = integers["order"], integers["order"][alone : width + 2 * fed].reshape(fed, 3)
        order[:alone] = np.arange(alone)
        triples[:, 0] = np.arange(alone, width)
        triples[:, 1] = shape.streams + np.arange(fed)
        triples[:, 2] = shape.streams + shape.fed + np.arange(fed)
        order[width + 2 * fed :] = 0
        if self._padded:
            fill_plan(integers, shape.flat, plan)
        self._uniforms.host["uniforms"][:width] = uniforms
        for row, thought in zip(self._hidden_to_fill(), thoughts, strict=False):
            row.copy_(thought.hidden)
        self._integers.send()
        self._uniforms.send()
        self._memory.hidden.send(fed * self._memory.width)

    def _hidden_to_fill(self) -> Tensor:
        return self._memory.hidden.host[: self.shape.fed * self._memory.width].view(-1, self._memory.width)
