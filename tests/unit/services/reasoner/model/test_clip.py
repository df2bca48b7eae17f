"""Mel frames and tower rows, whole_clip piece by piece and whole, against the reference's golden data."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.wire.audio import HEARING_RATE_HZ, tokens_of_mel_frames
from services.reasoner.model.audio_tower import AudioTower
from services.reasoner.model.clip import Clip
from services.reasoner.model.mel import MelFilters, scaled
from services.runtime.checkpoint.config import AudioTowerConfig
from tests.support.golden_cases import AUDIO_CASES, clips_of, load_case

MEL = MelFilters(128)
CHUNK_FRAMES = 200


def encoded(clip: torch.Tensor, tower: AudioTower, cuts: list[int] | None = None) -> Clip:
    """A clip cut at the given samples. Every chunk is encoded as soon as it is dirty."""
    state = Clip(MEL, CHUNK_FRAMES)
    edges = [0, *sorted(cuts or []), clip.shape[0]]
    for start, stop in pairwise(edges):
        state.append(clip[start:stop])
        encode(state, tower)
    state.finish()
    encode(state, tower)
    return state


def encode(state: Clip, tower: AudioTower) -> None:
    for index in state.dirty():
        state.store(index, tower([state.features(index)])[0])


def features_of(state: Clip) -> torch.Tensor:
    return torch.cat([state.features(index) for index in range(len(state.chunks))])


def embeddings_of(state: Clip) -> torch.Tensor:
    return torch.cat([chunk.embeddings for chunk in state.chunks if chunk.embeddings is not None])


def whole_clip_features(clip: torch.Tensor) -> torch.Tensor:
    """The definition, all at once: reflect, pad with zeros, transform, clamp by the loudest bin, scale. [T, 128]"""
    padded = torch.cat([clip, torch.zeros(2 * HEARING_RATE_HZ)])
    spectrum = torch.stft(padded, 400, 160, window=torch.hann_window(400), return_complex=True).abs() ** 2
    log_mel = torch.clamp(MEL.filters.T @ spectrum, min=1e-10).log10()
    return scaled(log_mel, float(log_mel.max()) - 8.0).T[: -(-clip.shape[0] // 160)]


def clip_with_loudness(seed: int, decibels: list[float], tail_samples: int) -> torch.Tensor:
    """Coloured noise whose loudness steps every 0.7 s."""
    generator = torch.Generator().manual_seed(seed)
    step = HEARING_RATE_HZ * 7 // 10
    noise = torch.randn(step * len(decibels) + tail_samples, generator=generator)
    noise = torch.nn.functional.conv1d(noise[None, None], torch.full((1, 1, 9), 1 / 9), padding=4)[0, 0]
    gain = torch.tensor([10 ** (d / 20) for d in decibels]).repeat_interleave(step)
    return noise * torch.cat([gain, gain[-1].expand(tail_samples)])


@pytest.fixture(scope="module")
def tower() -> AudioTower:
    torch.manual_seed(0)
    return AudioTower(AudioTowerConfig(1, 16, 2, 32, 128, 100, 8)).eval()


ROUNDING = 1e-4
"""The reference's own features are up to 2.5e-5 from those of a Fourier transform in float64. The last bits of one in
float32 depend on the processor."""


@pytest.mark.parametrize("case", AUDIO_CASES)
def test_features_equal_the_reference(case: str, golden_tower: AudioTower) -> None:
    golden = load_case(case)
    for n, clip in enumerate(clips_of(golden)):
        frames = int(golden["in.thinker_feature_attention_mask"][n].sum())
        expected = golden["in.thinker_input_features"][n, :, :frames].T
        torch.testing.assert_close(features_of(encoded(clip, golden_tower)), expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("case", AUDIO_CASES)
def test_tower_rows_equal_the_reference(case: str, golden_tower: AudioTower) -> None:
    golden = load_case(case)
    states = [encoded(clip, golden_tower, cuts=[1, 777, 8_000]) for clip in clips_of(golden)]
    rows = torch.cat([embeddings_of(state) for state in states])
    torch.testing.assert_close(rows, golden["out.audio_tower_features"], atol=1e-4, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    decibels=st.lists(st.floats(-90, 0), min_size=1, max_size=12),
    tail_samples=st.integers(0, 40_000),
    cuts=st.lists(st.integers(0, 60_000), max_size=12),
)
def test_pieces_give_what_the_whole_clip_gives(
    seed: int, decibels: list[float], tail_samples: int, cuts: list[int], tower: AudioTower
) -> None:
    clip = clip_with_loudness(seed, decibels, tail_samples)
    clip_state = encoded(clip, tower, [cut for cut in cuts if cut < clip.shape[0]])
    whole = whole_clip_features(clip)
    torch.testing.assert_close(features_of(clip_state), whole, atol=2e-5, rtol=0)
    pieces = [piece for piece in whole.split(CHUNK_FRAMES) if tokens_of_mel_frames(piece.shape[0])]
    torch.testing.assert_close(embeddings_of(clip_state), torch.cat(tower(pieces)), atol=2e-4, rtol=0)
    assert embeddings_of(clip_state).shape[0] == tokens_of_mel_frames(whole.shape[0])
    assert clip_state.dirty() == []


@pytest.mark.parametrize("samples", [321, 480, 31_999, 32_000, 32_001, 32_039, 32_040, 32_041, 32_160, 64_000, 64_321])
def test_every_length_around_a_chunk_edge_is_whole(samples: int, tower: AudioTower) -> None:
    clip = clip_with_loudness(3, [-10.0] * 6, 2_000)[:samples]
    clip_state = encoded(clip, tower)
    torch.testing.assert_close(features_of(clip_state), whole_clip_features(clip), atol=2e-5, rtol=0)
    assert embeddings_of(clip_state).shape[0] == tokens_of_mel_frames(-(-samples // 160))


@pytest.mark.parametrize("samples", [1, 100, 200, 201, 320])
def test_clip_too_short_for_a_row_gives_none(samples: int, tower: AudioTower) -> None:
    state = Clip(MEL, CHUNK_FRAMES)
    state.append(torch.full((samples,), 0.1))
    state.finish()
    assert state.dirty() == []
    assert sum(chunk.length for chunk in state.chunks) == 0
    assert len(features_of(state)) == -(-samples // 160)


def test_chunk_is_encoded_once_when_no_louder_part_comes(tower: AudioTower) -> None:
    clip = clip_with_loudness(1, [0.0, -20.0, -20.0, -20.0, -20.0, -20.0, -20.0, -20.0, -20.0], 0)
    assert encoded(clip, tower, cuts=list(range(0, clip.shape[0], 1_600))).recomputed_chunks == 0


def test_louder_later_part_redoes_only_chunks_with_bins_under_the_new_floor(tower: AudioTower) -> None:
    state = Clip(MEL, CHUNK_FRAMES)
    generator = torch.Generator().manual_seed(5)
    quiet = torch.randn(32_300, generator=generator) * 0.3
    loud = torch.randn(40_000, generator=generator)
    state.append(torch.cat([torch.zeros(32_000), quiet]))
    encode(state, tower)
    state.append(loud)
    assert state.dirty() == [0, 2]  # the silent chunk's bins rise; the quiet one has none that low
    encode(state, tower)
    assert state.recomputed_chunks == 1


def test_chunks_of_different_length_batch_as_they_encode_alone(tower: AudioTower) -> None:
    generator = torch.Generator().manual_seed(2)
    chunks = [torch.randn(n, 128, generator=generator) for n in (200, 3, 57, 200, 126, 199)]
    for chunk, together in zip(chunks, tower(chunks), strict=True):
        torch.testing.assert_close(together, tower([chunk])[0], atol=1e-5, rtol=0)
