"""The numbers of the audio geometry agree with each other."""

import pytest

from services.common.wire import audio


def test_a_frame_is_80_ms_of_sound() -> None:
    assert audio.FRAME_S == 0.08
    assert audio.FRAME_RATE_HZ == 12.5
    assert round(audio.FRAME_S * audio.SAMPLE_RATE_HZ) == audio.FRAME_SAMPLES


@pytest.mark.parametrize(
    ("mel_frames", "tokens"),
    [(0, 0), (2, 0), (3, 1), (4, 1), (6, 1), (7, 2), (200, 50)],
)
def test_a_recording_takes_one_token_for_each_four_mel_frames(mel_frames: int, tokens: int) -> None:
    assert audio.tokens_of_mel_frames(mel_frames) == tokens


def test_two_seconds_of_speech_are_the_two_hundred_mel_frames_of_a_full_chunk() -> None:
    assert 2 * audio.HEARING_RATE_HZ // audio.MEL_HOP_SAMPLES == 200
