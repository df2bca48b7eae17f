"""The computed memory of a GPU is what the loaded models keep."""

from __future__ import annotations

from typing import get_args

import pytest
from rich.console import Console

from bench.gpu.memory import device_bytes, memory_table
from checkpoints.presets import preset_config
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.quantized import WeightFormat

FULL = ChromaConfig.from_dict(preset_config("full"))


def gigabytes(weights: WeightFormat, streams: int) -> float:
    return sum(device_bytes(FULL, weights, streams).values()) / 1e9


def test_the_published_model_in_4_bits_fits_the_cards_that_people_have() -> None:
    assert gigabytes("int4", 2) < 4 < gigabytes("int8", 2)
    assert gigabytes("int4", 16) < 8 < gigabytes("as-stored", 2)


def test_fewer_bits_shrink_the_matrices_only() -> None:
    stored, eight, four = (device_bytes(FULL, each, 2) for each in get_args(WeightFormat))
    assert stored["codec"] == eight["codec"] == four["codec"]
    assert stored["keys and values"] == eight["keys and values"] == four["keys and values"]
    assert eight["thinker"] == pytest.approx(stored["thinker"] / 2, rel=0.01)
    assert four["thinker"] == pytest.approx(stored["thinker"] * 4.5 / 16, rel=0.01)


def test_more_streams_add_keys_and_values() -> None:
    one, three = (device_bytes(FULL, "int8", streams, positions=100) for streams in (1, 3))
    assert three["keys and values"] == 3 * one["keys and values"] == 3 * 100 * (36_864 + 32_768)


def test_the_table_has_a_column_for_each_format() -> None:
    console = Console(width=100, record=True)
    console.print(memory_table(FULL, [2, 16], 2048))
    shown = console.export_text()
    assert all(name in shown for name in ("bfloat16", "int8", "int4", "all, 16 streams"))
