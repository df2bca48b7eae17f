"""A KV cache with streams of many lengths, and padded attention over it, for the tests of attention."""

from __future__ import annotations

import numpy as np
import torch

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.graphs.staging import StagingBuffer
from services.runtime.kvcache.attention_padded import PaddedAttention, PaddedShape
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV

HEADS, KV_HEADS, HEAD_DIM = 6, 2, 12


def filled_kv(dtype: torch.dtype, seed: int, layers: int = 1, device: str = "cpu") -> tuple[PagedKV, list[int]]:
    """Six streams of 0 to 120 positions in scattered pages. Returns the slots of five of them, in no order."""
    dice = np.random.default_rng(seed)
    config = StackConfig(layers, 48, HEADS, KV_HEADS, HEAD_DIM, 80, 1e-6, False, RopeConfig(theta=1e4), 200)
    kv = PagedKV(config, slots=6, pages=300, page_size=4, dtype=dtype, device=device)
    for x in (kv.k, kv.v):
        x.copy_(torch.from_numpy(dice.normal(size=x.shape)).to(dtype))
    slots = [kv.open() for _ in range(6)]
    for slot in dice.permutation(np.repeat(slots, 5)):
        kv.plan([int(slot)], [int(dice.integers(0, 25))])
    kv.truncate(slots[2], 0)
    return kv, [slots[i] for i in (4, 0, 5, 2, 1)]


def padded_attention(kv: PagedKV, plan: RaggedAttention | None, shape: PaddedShape) -> PaddedAttention:
    """`plan` as padded attention of this shape, in inputs that an earlier step has used. None: padding only."""
    inputs = StagingBuffer.new(shape.fields(kv), kv.k.device)
    for name in shape.fields(kv):
        inputs.host(name).fill_(1)  # the values of an earlier step
    inputs.fill(**({} if plan is None else shape.arrays(plan)))
    inputs.send()
    return PaddedAttention(kv, shape, inputs.device)
