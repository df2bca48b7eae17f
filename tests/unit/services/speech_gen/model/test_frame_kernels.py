"""Prefill and frames computed with kernels, in padded shapes, give the codes of PyTorch's operations in exact ones."""

from __future__ import annotations

import pytest

from services.common.sampling import SamplingParams
from services.runtime.kvcache import attention_padded as paged_attention
from services.runtime.kvcache import attention_ragged as flat_attention
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers import fused
from services.speech_gen.model import depth_decoder, sampling
from services.speech_gen.model.generator import Generator
from tests.support.golden_speech import all_rows
from tests.support.kernels import DEVICE, NEEDS_KERNELS

pytestmark = [*NEEDS_KERNELS, pytest.mark.skipif(DEVICE != "cpu", reason="tests/gpu has these tests for a device")]

SAMPLINGS = (
    SamplingParams(greedy=True),
    SamplingParams(seed=5, top_k=300, temperature=1.2),
    SamplingParams(seed=9, top_p=0.8),
)


def codes(loaded: Generator, *, padded: bool) -> list[list[list[int]]]:
    """Three streams' frames: all with a thought, all without, one with and two without."""
    kv = PagedKV(loaded.kv.config, slots=6, pages=60, dtype=loaded.kv.k.dtype)
    generator = Generator(loaded.backbone, loaded.decoder, kv, eos=loaded.eos, im_end=loaded.im_end, padded=padded)
    rows = all_rows()[:3]
    slots = [generator.open(sampling) for sampling in SAMPLINGS]
    generator.prefill(slots, [row.request(generator).voice.rows[:-1] for row in rows])
    frames = [
        generator.frame([], slots, [row.thoughts[0] for row in rows]),
        generator.frame(slots, [], []),
        generator.frame(slots[:2], slots[2:], rows[2].thoughts[1:2]),
    ]
    return [frame.tolist() for frame in frames]


def test_kernels_give_the_same_codes(loaded_generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = codes(loaded_generator, padded=False)
    for module in (fused, flat_attention, paged_attention, depth_decoder, sampling):
        monkeypatch.setattr(module, "uses_kernels", lambda x: True)
    assert codes(loaded_generator, padded=True) == expected
