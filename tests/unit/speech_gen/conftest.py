"""The golden checkpoint's speech generator."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)

from golden_speech import CHECKPOINT  # noqa: E402

from services.runtime.checkpoint import Checkpoint  # noqa: E402
from services.speech_gen.model.generator import Generator  # noqa: E402
from services.speech_gen.model.weights import load_generator  # noqa: E402

SLOTS = 16


@pytest.fixture(scope="session")
def loaded_generator() -> Generator:
    return load_generator(Checkpoint.open(CHECKPOINT), slots=SLOTS)


@pytest.fixture
def generator(loaded_generator: Generator) -> Iterator[Generator]:
    """The generator, which every test must leave without a stream."""
    pages = loaded_generator.kv.free_pages
    yield loaded_generator
    assert (loaded_generator.kv.free_slots, loaded_generator.kv.free_pages) == (SLOTS, pages)
