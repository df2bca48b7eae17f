"""Mel spectrograms, the distance between waveforms, and the patches of code frames."""

from __future__ import annotations

import pytest
import torch

from train.codec.mel import LOG_FLOOR, FramePatches, LogMel, MelDistance


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def test_silence_is_at_the_floor() -> None:
    levels = LogMel(fft=512, hop=128, bands=40)(torch.zeros(1, 2048))
    assert levels.shape == (1, 40, (2048 - 512) // 128 + 1)
    torch.testing.assert_close(levels, torch.full_like(levels, torch.tensor(LOG_FLOOR).log10().item()))


def test_a_waveform_has_no_distance_from_itself_and_more_from_less_similar_ones() -> None:
    distance, wanted = MelDistance(), noise(4096)
    assert distance(wanted, wanted).item() == pytest.approx(0.0, abs=1e-6)
    assert 0 < distance(0.9 * wanted, wanted) < distance(0.5 * wanted, wanted)


def test_the_distance_has_finite_gradients_at_silence() -> None:
    made = torch.zeros(1, 4096, requires_grad=True)
    MelDistance()(made, noise(4096)).backward()
    assert made.grad is not None
    assert made.grad.isfinite().all()


def test_a_patch_does_not_depend_on_later_frames() -> None:
    patches, pcm = FramePatches(), noise(4 * 1920)
    changed = torch.cat([pcm[:, : 2 * 1920], noise(2 * 1920, seed=1)], dim=1)
    assert patches(pcm).shape == (1, 4, 320)
    torch.testing.assert_close(patches(changed)[:, :2], patches(pcm)[:, :2])
    assert not torch.allclose(patches(changed)[:, 2:], patches(pcm)[:, 2:])
