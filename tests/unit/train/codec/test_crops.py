"""Crops have the codes of their own frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from train.codec.crops import CodedClip, CropSource, whole_frames, with_share


def numbered(frames: int, first: int) -> CodedClip:
    """A clip whose samples and codes both say which frame they belong to."""
    numbers = np.arange(first, first + frames)
    return CodedClip(np.repeat(numbers, 1920).astype(np.int16), torch.from_numpy(numbers)[:, None].expand(-1, 8))


def test_samples_and_codes_are_of_the_same_frames() -> None:
    source = CropSource([numbered(20, 0), numbered(9, 100), numbered(3, 200)], frames=8, seed=0)
    seen = set()
    for _ in range(50):
        crops = source.draw(4)
        frames = (crops.pcm * 32768.0).view(4, 8, 1920)
        assert torch.equal(frames, crops.codes[:, :, :1].float().expand(-1, -1, 1920))
        assert torch.equal(crops.codes[:, 1:], crops.codes[:, :-1] + 1)
        seen |= set(crops.codes[:, 0, 0].tolist())
    assert seen == {*range(13), 100, 101}


def test_beginnings_have_no_context_and_other_crops_do() -> None:
    source = CropSource([numbered(20, 0)], frames=8, seed=0)
    draws = [source.draw(2) for _ in range(200)]
    beginnings = [crops for crops in draws if crops.context == 0]
    assert 5 < len(beginnings) < 40
    assert all(not crops.codes[:, 0].any() for crops in beginnings)
    assert {crops.context_samples for crops in draws} == {0, 2 * 1920}


def test_a_clip_of_double_weight_is_drawn_twice_as_often() -> None:
    clips = [replace(numbered(20, 0), weight=2.0), numbered(20, 100)]
    drawn = CropSource(clips, frames=8, seed=0).draw(3_000).codes[:, 0, 0]
    assert float((drawn < 100).float().mean()) == pytest.approx(2 / 3, abs=0.05)


def test_clips_are_weighted_to_a_share_of_the_frames() -> None:
    own, others = [numbered(10, 0)], [numbered(20, 100), numbered(40, 200)]
    drawn = [one.weight * one.frames for one in with_share(own, others, 0.25)]
    assert drawn[0] / sum(drawn) == pytest.approx(0.25)
    assert [one.weight for one in with_share(own, [], 0.25)] == [1.0]
    assert [one.weight for one in with_share([], others, 0.25)] == [1.0, 1.0]


def test_clips_shorter_than_a_crop_are_refused() -> None:
    with pytest.raises(ValueError, match="clips of at least 8 frames"):
        CropSource([numbered(7, 0)], frames=8, seed=0)


@pytest.mark.parametrize(("samples", "lead", "expected"), [(1920, 0, 1920), (1921, 0, 3840), (1000, 960, 3840)])
def test_whole_frames_lead_in_and_fill_up_with_silence(samples: int, lead: int, expected: int) -> None:
    pcm = whole_frames(np.ones(samples, np.int16), lead=lead)
    assert len(pcm) == expected
    assert pcm.sum() == samples
    assert not pcm[:lead].any()
