"""The inputs of a frame step: its shape, and where each row of the backbone comes from."""

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
    """A step of up to `streams` streams, up to `fed` of them with a thought."""

    streams: int
    fed: int

    @property
    def rows(self) -> int:
        """Backbone rows: one for each stream and two more for each thought."""
        return self.streams + 2 * self.fed

    @property
    def attention(self) -> PaddedShape:
        """The shape of its attention."""
        return PaddedShape.of_steps(self.streams, self.rows)


def frame_shapes(slots: int) -> list[FrameShape]:
    """Every shape of a padded step of up to `slots` streams, the widest first."""
    return [FrameShape(width, fed) for width in reversed(buckets(slots)) for fed in reversed(_fed_counts(width))]


def padded_shape(streams: int, fed: int, slots: int) -> FrameShape:
    """The smallest of `frame_shapes(slots)` with room for `streams` streams, `fed` of them with a thought."""
    width = bucket_of(streams, buckets(slots))
    return FrameShape(width, bucket_of(fed, _fed_counts(width)))


def frame_fields(
    shape: FrameShape, kv: PagedKV, codebooks: int, width: int, dtype: torch.dtype, *, padded: bool
) -> Fields:
    """The inputs of a step of W streams, F thoughts and R rows.

    `slots` [W]; `opening` [W], 1 where the zero row stands for the previous frame; `last` [W], each stream's last row;
    `tokens` [F]; `order` [R], where each row is found among all previous frames, hidden states and tokens; `uniforms`
    [W, K]; `hidden` [F, D]. A padded step also has the inputs of its attention.
    """
    return {
        "slots": Field((shape.streams,), padding=kv.slots),  # the slot of padding
        "opening": Field((shape.streams,), padding=1),
        "last": Field((shape.streams,)),
        "tokens": Field((shape.fed,)),
        "order": Field((shape.rows,)),
        "uniforms": Field((shape.streams, codebooks), torch.float32),
        "hidden": Field((shape.fed, width), dtype, padding=None),
        **(shape.attention.fields(kv) if padded else {}),
    }


def row_order(shape: FrameShape, alone: int, fed: int) -> tuple[np.ndarray, np.ndarray]:
    """`order` and `last` of a step of `alone` streams without a thought and then `fed` streams with one.

    The rows of a stream are A(previous frame) alone, or that, h and E(t).
    """
    order = np.empty(alone + 3 * fed, dtype=np.int64)
    order[:alone] = np.arange(alone)
    triples = order[alone:].reshape(fed, 3)
    triples[:, 0] = np.arange(alone, alone + fed)
    triples[:, 1] = shape.streams + np.arange(fed)
    triples[:, 2] = shape.streams + shape.fed + np.arange(fed)
    last = np.arange(alone + fed)
    last[alone:] = np.arange(alone + 2, alone + 3 * fed, 3)
    return order, last


def _fed_counts(width: int) -> list[int]:
    """Thoughts for which a padded step of `width` streams has room: none, half as many or all."""
    return sorted({0, -(-width // 2), width})
