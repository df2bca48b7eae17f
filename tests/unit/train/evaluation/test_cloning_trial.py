"""Cloned sounds are compared with the speakers. In these tests the level of a sound is its voice."""

from __future__ import annotations

import numpy as np
import pytest

from services.common.sampling import SamplingParams
from services.speech_gen.messages import EndReason, SpeechRequest
from train.evaluation.cloning_trial import ClonedSound, decoded, figures
from train.speech.examples import CodedRecording
from train.speech.free_running import GeneratedReply

SPEAKERS = {"low": np.array([1, 0], np.float32), "high": np.array([0, 1], np.float32)}


def encode(samples: np.ndarray) -> np.ndarray:
    if not samples.any():
        raise ValueError("silence")
    return SPEAKERS["low" if float(np.median(samples)) < 0.4 else "high"]


def sound(speaker: str, level: float, *, ended: bool = True) -> ClonedSound:
    return ClonedSound(speaker, np.full(24_000, level, np.float32), ended)


def test_a_sound_counts_when_its_own_speaker_is_the_nearest() -> None:
    sounds = [sound("low", 0.25), sound("low", 0.5, ended=False), sound("high", 0.5), sound("high", 0.0)]
    found = figures(sounds, SPEAKERS, encode)
    assert (found.sounds, found.ended, found.own, found.own_is_nearest) == (4, 0.75, 0.5, 0.5)
    assert found.closest_other == 0.25


class Codec:
    """Decodes a frame to 1,920 samples of the value of its first code."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return np.repeat(codes[:, 0], 1920).astype(np.float32)


@pytest.mark.parametrize(("end", "ended"), [(EndReason.EOS, True), (EndReason.MAX_FRAMES, False)])
def test_replies_with_frames_are_decoded(end: EndReason, ended: bool) -> None:
    recording = CodedRecording((1, 2), (np.ones((2, 8), int),), 1.0)
    request = SpeechRequest(None, SamplingParams(), 9)  # type: ignore[arg-type]  # decoding reads no voice
    replies = [GeneratedReply("low", recording, [], request, frames, end) for frames in ([], [(1,) * 8, (2,) * 8])]
    [found] = decoded(replies, Codec())  # type: ignore[arg-type]  # a codec that only decodes
    assert (found.speaker, found.ended, len(found.samples)) == ("low", ended, 3840)
    assert found.samples[-1] == 2.0
