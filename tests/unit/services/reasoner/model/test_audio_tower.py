"""The audio tower: the shape of its output, and chunks that do not see each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from services.common.errors import CheckpointError
from services.common.wire.audio import tokens_of_mel_frames
from services.reasoner.model.audio_tower import AudioTower
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from tests.support.golden_cases import CHECKPOINT


def chunks_of(tower: AudioTower, lengths: list[int]) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(7)
    return [torch.randn(length, tower.mel_bins, generator=dice) for length in lengths]


def test_every_chunk_has_an_embedding_for_each_of_its_tokens(golden_tower: AudioTower) -> None:
    lengths = [3, 4, 7, 50, 199, golden_tower.chunk_frames]
    for length, embeddings in zip(lengths, golden_tower(chunks_of(golden_tower, lengths)), strict=True):
        assert embeddings.shape == (tokens_of_mel_frames(length), golden_tower.output_width)


def test_a_chunk_encoded_beside_longer_ones_equals_the_chunk_encoded_by_itself(golden_tower: AudioTower) -> None:
    chunks = chunks_of(golden_tower, [5, 101, golden_tower.chunk_frames])
    for chunk, embeddings in zip(chunks, golden_tower(chunks), strict=True):
        torch.testing.assert_close(embeddings, golden_tower([chunk])[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("frames", [2, 201])
def test_a_chunk_that_is_too_short_or_too_long_is_a_fault_of_the_caller(golden_tower: AudioTower, frames: int) -> None:
    with pytest.raises(AssertionError, match="chunk frames"):
        golden_tower(chunks_of(golden_tower, [frames]))


def test_a_window_of_an_odd_number_of_frames_is_refused() -> None:
    config = ChromaConfig.from_dict(Checkpoint.open(CHECKPOINT).config).thinker.audio
    with torch.device("meta"), pytest.raises(CheckpointError, match="expected an even number, found 99"):
        AudioTower(replace(config, n_window=99))
