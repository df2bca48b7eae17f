"""Long silence at the ends of a recording is cut while it comes; what is kept is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.trim import TooLong, Trimmer
from services.common.wire.pcm import Samples

_RATE_HZ = 1_000


def _sound(seconds: float, level: float = 0.3) -> Samples:
    count = round(seconds * _RATE_HZ)
    return (level * np.where(np.arange(count) % 2, 1, -1)).astype(np.float32)


def _trimmed(*parts: Samples, max_s: float = 10.0, piece: int = 70) -> tuple[Samples, Trimmer]:
    trimmer = Trimmer(_RATE_HZ, max_s)
    whole = np.concatenate(parts)
    for begin in range(0, len(whole), piece):
        trimmer.push(whole[begin : begin + piece])
    return trimmer.finish(), trimmer


@pytest.mark.parametrize("piece", [1, 70, 100, 10_000])
@pytest.mark.parametrize("parts", [(0.0, 2.0, 0.0), (1.0, 2.0, 1.0), (0.35, 0.05, 0.02), (0.0, 10.0, 0.0)])
def test_a_recording_without_long_silence_is_not_changed(parts: tuple[float, float, float], piece: int) -> None:
    whole = np.concatenate([_sound(parts[0], 0), _sound(parts[1]), _sound(parts[2], 0)])
    kept, trimmer = _trimmed(whole, piece=piece)
    assert np.array_equal(kept, whole)
    assert not trimmer.was_cut


@pytest.mark.parametrize("level", [0.0, 5e-4])
def test_a_second_of_silence_stays_at_each_end(level: float) -> None:
    kept, trimmer = _trimmed(_sound(300, level), _sound(2), _sound(300, level))
    assert len(kept) == 4 * _RATE_HZ
    assert np.array_equal(kept[1_000:3_000], _sound(2))
    assert trimmer.was_cut
    assert trimmer.has_sound


def test_silence_between_two_sounds_stays() -> None:
    whole = np.concatenate([_sound(1), _sound(7, 0), _sound(1)])
    assert np.array_equal(_trimmed(whole)[0], whole)


@pytest.mark.parametrize("parts", [(0.0, 10.01), (5.0, 9.5)])
def test_a_sound_beyond_the_limit_is_too_long(parts: tuple[float, float]) -> None:
    with pytest.raises(TooLong):
        _trimmed(_sound(parts[0], 0), _sound(parts[1]), _sound(0.2))


def test_a_sound_after_a_silence_beyond_the_limit_is_too_long() -> None:
    with pytest.raises(TooLong):
        _trimmed(_sound(1), _sound(20, 0), _sound(1))


def test_a_quiet_recording_within_the_limit_is_kept_whole() -> None:
    quiet = _sound(5, 5e-4)
    kept, trimmer = _trimmed(quiet)
    assert np.array_equal(kept, quiet)
    assert not trimmer.has_sound


def test_of_silence_alone_little_is_kept() -> None:
    kept, trimmer = _trimmed(_sound(500, 0))
    assert len(kept) <= 10 * _RATE_HZ
    assert trimmer.was_cut
    assert not trimmer.has_sound


def test_nothing_is_nothing() -> None:
    assert len(Trimmer(_RATE_HZ, 10.0).finish()) == 0
