"""The golden checkpoint's speech generator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from services.runtime.checkpoint.checkpoint import Checkpoint
from services.speech_gen.model.generator import Generator
from services.speech_gen.model.weights import load_generator
from tests.support.golden_speech import CHECKPOINT

torch.set_num_threads(1)

SLOTS = 16


@pytest.fixture(scope="session")
def loaded_generator() -> Generator:
    return load_generator(Checkpoint.open(CHECKPOINT), slots=SLOTS)


@pytest.fixture
def generator(loaded_generator: Generator) -> Iterator[Generator]:
    """The golden generator. Every test must close its streams."""
    pages = loaded_generator.kv.free_pages
    yield loaded_generator
    assert (loaded_generator.kv.free_slots, loaded_generator.kv.free_pages) == (SLOTS, pages)
