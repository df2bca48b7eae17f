"""The codec of a checkpoint made here turns codes into sound one can hear, and sound into many codes."""

from __future__ import annotations

import numpy as np
import pytest

from checkpoints.writer import write_checkpoint
from services.codec.model.mimi import Mimi
from services.runtime.checkpoint.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def mimi(tmp_path_factory: pytest.TempPathFactory) -> Mimi:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint("tiny", folder)
    return Mimi.load(Checkpoint.open(folder))


def test_random_codes_are_audible_centred_and_not_clipped(mimi: Mimi) -> None:
    codes = np.random.default_rng(0).integers(0, 2048, (40, 8), dtype=np.uint16)
    pcm = mimi.decode(codes)
    assert np.isfinite(pcm).all()
    assert 0.01 < pcm.std() < 0.3
    assert abs(pcm.mean()) < 0.01
    assert np.abs(pcm).max() < 1.0


def test_changing_sound_gives_changing_codes(mimi: Mimi) -> None:
    seconds = np.arange(48_000) / 24_000
    sweep = (0.1 * np.sin(2 * np.pi * (100 + 400 * seconds) * seconds)).astype(np.float32)
    codes = mimi.encode(sweep)
    assert codes.shape == (25, 8)
    assert all(len(np.unique(codes[:, codebook])) > 10 for codebook in range(8))
