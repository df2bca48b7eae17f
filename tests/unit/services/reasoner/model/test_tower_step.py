"""Chunks of a step filled up to a fixed shape give the rows that they give alone."""

from __future__ import annotations

import pytest
import torch

from services.reasoner.model.audio_tower import AudioTower
from services.reasoner.model.tower_step import MAX_CHUNKS, TowerStep
from services.runtime.graphs.graphs import StepGraphs


def steps_of(tower: AudioTower, *, padded: bool) -> TowerStep:
    return TowerStep(tower, StepGraphs(torch.device("cpu"), padded=padded))


@pytest.mark.parametrize("count", [1, 3, MAX_CHUNKS, MAX_CHUNKS + 1])
@torch.inference_mode()
def test_filled_up_chunks_equal_lone_ones(count: int, golden_tower: AudioTower) -> None:
    dice = torch.Generator().manual_seed(count)
    step = steps_of(golden_tower, padded=True)
    step.capture()
    for _ in range(3):
        lengths = torch.randint(3, golden_tower.chunk_frames + 1, (count,), generator=dice).tolist()
        chunks = [torch.randn(length, golden_tower.mel_bins, generator=dice) for length in lengths]
        for chunk, rows in zip(chunks, step(chunks), strict=True):
            torch.testing.assert_close(rows, golden_tower([chunk])[0], rtol=0, atol=2e-5)


@torch.inference_mode()
def test_rows_stand_when_the_next_chunks_come(golden_tower: AudioTower) -> None:
    step = steps_of(golden_tower, padded=True)
    quiet, loud = torch.zeros(50, golden_tower.mel_bins), torch.ones(70, golden_tower.mel_bins)
    kept = step([quiet])[0]
    before = kept.clone()
    assert not torch.equal(step([loud])[0][: len(kept)], before)
    assert torch.equal(kept, before)
