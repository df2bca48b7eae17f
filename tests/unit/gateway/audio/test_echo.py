"""Echoes of played speech, told from other speech."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import soundfile
import soxr

from gateway.audio.echo import FRAME_S, BandEnergies, EchoDetector, PlayedSpeech, likeness
from services.common.wire.audio import HEARING_RATE_HZ, SAMPLE_RATE_HZ
from services.common.wire.pcm import Samples
from tests.support.paths import SAMPLES

_STEP = 512


@cache
def _recording(name: str, rate_hz: int) -> Samples:
    sound, from_hz = soundfile.read(SAMPLES / name, dtype="float32")
    return soxr.resample(sound, from_hz, rate_hz).astype(np.float32)


def _reply() -> Samples:
    return _recording("voices/amber.flac", SAMPLE_RATE_HZ)


def _echoes(microphone: Samples, played: PlayedSpeech) -> list[bool]:
    """What the detector says of each window of 32 ms. The microphone is opened at 0 s."""
    now_s = 0.0
    echo = EchoDetector(played, HEARING_RATE_HZ, lambda: now_s)
    found = []
    for end in range(_STEP, len(microphone) + 1, _STEP):
        now_s = end / HEARING_RATE_HZ
        echo.push(microphone[end - _STEP : end])
        found.append(echo.is_echo())
    return found


def _played(at_s: float = 1.0) -> PlayedSpeech:
    """A reply of which pieces are sent, as a codec does."""
    played = PlayedSpeech(SAMPLE_RATE_HZ)
    played.is_wanted = True
    reply = _reply()
    for start in range(0, len(reply), 1_920):
        played.add(start, reply[start : start + 1_920], at_s + start / SAMPLE_RATE_HZ)
    return played


@pytest.mark.parametrize("delay_s", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("level", [0.5, 0.05])
def test_the_echo_of_a_reply_is_found_at_any_delay_and_level(delay_s: float, level: float) -> None:
    silence = np.zeros(round((1.0 + delay_s) * HEARING_RATE_HZ), np.float32)
    microphone = np.concatenate([silence, level * _recording("voices/amber.flac", HEARING_RATE_HZ)])
    microphone += np.random.default_rng(1).standard_normal(len(microphone)).astype(np.float32) * np.float32(1e-4)
    after_s = 1.0 + delay_s + 0.3
    assert all(_echoes(microphone, _played())[round(after_s * HEARING_RATE_HZ / _STEP) :])


def test_another_voice_during_a_reply_is_none() -> None:
    silence = np.zeros(HEARING_RATE_HZ, np.float32)
    microphone = np.concatenate([silence, _recording("utterance_librivox_3s.flac", HEARING_RATE_HZ)])
    found = _echoes(microphone, _played())
    assert not all(found[round(1.3 * HEARING_RATE_HZ / _STEP) : round(1.9 * HEARING_RATE_HZ / _STEP)])


def test_nothing_is_an_echo_while_nothing_is_played() -> None:
    microphone = _recording("voices/amber.flac", HEARING_RATE_HZ)
    assert not any(_echoes(microphone, PlayedSpeech(SAMPLE_RATE_HZ)))


def test_what_was_played_long_ago_is_forgotten() -> None:
    played = _played(at_s=1.0)
    assert played.around(2.0) is not None
    assert played._frames
    assert played.around(60.0) is None
    assert not played._frames


def test_nothing_is_kept_that_nobody_compares() -> None:
    played = PlayedSpeech(SAMPLE_RATE_HZ)
    played.add(0, _reply(), 0.0)
    assert not played._frames


@pytest.mark.parametrize("size", [1, 100, 1_920, 100_000])
def test_any_chunking_gives_the_same_frames(size: int) -> None:
    sound = _reply()[:9_600]
    pieces = BandEnergies(SAMPLE_RATE_HZ)
    frames = [pieces.push(sound[start : start + size]) for start in range(0, len(sound), size)]
    expected = BandEnergies(SAMPLE_RATE_HZ).push(sound)
    assert len(expected) == round(0.4 / FRAME_S) - 1
    assert np.allclose(np.concatenate(frames), expected)


def test_a_sound_is_like_itself_in_another_colour_and_not_like_silence() -> None:
    sound = BandEnergies(SAMPLE_RATE_HZ).push(_reply()[:19_200])
    coloured = sound * np.geomspace(0.1, 3, sound.shape[1])
    assert likeness(coloured[10:35], sound) > 0.95
    assert likeness(sound[10:35], np.zeros_like(sound)) < 0.1
