"""A frame reads each matrix as often as the model uses it."""

from __future__ import annotations

import pytest

from bench.steps.frame_bytes import frame_bytes, needed_rate
from checkpoints.presets import preset_config
from services.runtime.checkpoint.config import ChromaConfig, StackConfig

FULL = ChromaConfig.from_dict(preset_config("full"))


def layer_values(stack: StackConfig) -> int:
    queries, keys = stack.heads * stack.head_dim, stack.kv_heads * stack.head_dim
    return stack.width * (2 * queries + 2 * keys + 3 * stack.ffn_width)


def test_a_frame_reads_the_depth_decoder_seven_times_and_half_of_the_thinker() -> None:
    read = frame_bytes(FULL, "as-stored")
    for part, stack, times in (
        ("backbone", FULL.backbone, 1),
        ("depth decoder", FULL.decoder, 7),
        ("thinker", FULL.thinker.text, 0.5),
    ):
        layers = 2 * times * stack.layers * layer_values(stack)
        assert layers < read[part] < 1.15 * layers


def test_fewer_bits_are_fewer_bytes_of_all_but_the_codec() -> None:
    stored, eight, four = (frame_bytes(FULL, weights) for weights in ("as-stored", "int8", "int4"))
    for part in ("backbone", "depth decoder", "thinker"):
        assert eight[part] == pytest.approx(stored[part] / 2, rel=0.01)
        assert four[part] == pytest.approx(stored[part] * 4.5 / 16, rel=0.02)
    assert stored["codec"] == eight["codec"] == four["codec"]


def test_a_memory_is_fast_enough_when_a_frame_takes_80_ms_on_it() -> None:
    assert needed_rate(4e9) == pytest.approx(50e9)
    assert needed_rate(4e9, copy_rate=25e9, seconds_a_frame=0.16) == pytest.approx(50e9)
    assert needed_rate(4e9, copy_rate=25e9, seconds_a_frame=0.08) == pytest.approx(25e9)
