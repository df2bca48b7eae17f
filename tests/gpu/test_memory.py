"""What the models allocate on a CUDA device, within a cap."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.quantized import WeightFormat
from services.speech_gen.model.generator import Generator
from services.speech_gen.model.weights import load_generator
from tests.support import golden_speech

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

CAP_BYTES = 256 << 20
"""Far above what the small checkpoint needs, and far below a copy of a graph's memory for each graph."""


@pytest.fixture(autouse=True)
def capped() -> Iterator[None]:
    """The allocator refuses more than `CAP_BYTES`."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + CAP_BYTES) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def generator_in(weights: WeightFormat) -> Generator:
    checkpoint = Checkpoint.open(golden_speech.CHECKPOINT)
    return load_generator(checkpoint, slots=2, kv_pages=16, dtype=torch.bfloat16, device="cuda", weights=weights)


def test_the_cap_holds() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2 * CAP_BYTES, dtype=torch.uint8, device="cuda")


@pytest.mark.parametrize("weights", ["as-stored", "int8", "int4"])
def test_captured_steps_fit_the_cap(weights: WeightFormat) -> None:
    generator = generator_in(weights)
    generator.capture()
    assert torch.cuda.max_memory_allocated() > 0


def test_fewer_bits_allocate_less() -> None:
    allocated: list[int] = []
    for weights in ("as-stored", "int8", "int4"):
        gc.collect()
        before = torch.cuda.memory_allocated()
        generator = generator_in(weights)
        gc.collect()
        allocated.append(torch.cuda.memory_allocated() - before)
        del generator
    assert allocated[0] > allocated[1] > allocated[2]
