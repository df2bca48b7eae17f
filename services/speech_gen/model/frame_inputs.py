"""The inputs of a step that makes a frame: its shape, and the order of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from services.runtime.graphs.graphs import bucket_of, buckets
from services.runtime.graphs.staging import Field, Fields
from services.runtime.kvcache.attention_padded import PaddedShape
from services.runtime.kvcache.paged_kv import PagedKV


@dataclass(frozen=True, order=True)
class FrameShape:
    """A step with room for `streams` streams and `thoughts` thoughts, one for a stream at most."""

    streams: int
    thoughts: int

    @property
    def rows(self) -> int:
        """Rows of the backbone: one for each stream and two more for each thought."""
        return self.streams + 2 * self.thoughts

    @property
    def attention(self) -> PaddedShape:
        """The shape of the step's attention."""
        return PaddedShape.of_steps(self.streams, self.rows)


def frame_shapes(slots: int) -> list[FrameShape]:
    """Every shape of a padded step of up to `slots` streams, the widest first."""
    return [
        FrameShape(width, thoughts)
        for width in reversed(buckets(slots))
        for thoughts in reversed(_thought_buckets(width))
    ]


def padded_shape(exact: FrameShape, slots: int) -> FrameShape:
    """The smallest of `frame_shapes(slots)` with room for a step of shape `exact`."""
    width = bucket_of(exact.streams, buckets(slots))
    return FrameShape(width, bucket_of(exact.thoughts, _thought_buckets(width)))


def frame_fields(
    shape: FrameShape, kv: PagedKV, codebooks: int, width: int, dtype: torch.dtype, *, padded: bool
) -> Fields:
    """The inputs of a step of W streams, F thoughts and R rows. A padded step also has those of its attention.

    - `slots` [W];
    - `opening` [W]: 1 where the zero row replaces A(previous frame);
    - `last` [W]: the last row of each stream;
    - `hidden` and `text` [F, D]: the thoughts' hidden states h and embeddings E(t);
    - `order` [R]: the index of each row in A(previous frame) of all streams, then all h, then all E(t);
    - `uniforms` [W, K]: the random numbers for the codes.
    """
    return {
        "slots": Field((shape.streams,), padding=kv.slots),  # the slot of padding
        "opening": Field((shape.streams,), padding=1),
        "last": Field((shape.streams,)),
        "order": Field((shape.rows,)),
        "uniforms": Field((shape.streams, codebooks), torch.float32),
        "hidden": Field((shape.thoughts, width), dtype, padding=None),
        "text": Field((shape.thoughts, width), dtype, padding=None),
        **(shape.attention.fields(kv) if padded else {}),
    }


def row_order(shape: FrameShape, without_thought: int, with_thought: int) -> tuple[np.ndarray, np.ndarray]:
    """`order` and `last` of a step: first the streams without a thought, then the streams with one.

    A stream without a thought brings A(previous frame). A stream with one brings A(previous frame), h and E(t).
    """
    order = np.empty(without_thought + 3 * with_thought, dtype=np.int64)
    order[:without_thought] = np.arange(without_thought)
    triples = order[without_thought:].reshape(with_thought, 3)
    triples[:, 0] = np.arange(without_thought, without_thought + with_thought)
    triples[:, 1] = shape.streams + np.arange(with_thought)
    triples[:, 2] = shape.streams + shape.thoughts + np.arange(with_thought)
    last = np.arange(without_thought + with_thought)
    last[without_thought:] = np.arange(without_thought + 2, without_thought + 3 * with_thought, 3)
    return order, last


def _thought_buckets(width: int) -> list[int]:
    """The numbers of thoughts for which a padded step of `width` streams has room: none, half as many, or all."""
    return sorted({0, -(-width // 2), width})
