"""The numbers of the audio geometry agree with each other."""

from services.common.wire import audio


def test_a_frame_is_80_ms_of_sound() -> None:
    assert audio.FRAME_S == 0.08
    assert audio.FRAME_RATE_HZ == 12.5
    assert round(audio.FRAME_S * audio.SAMPLE_RATE_HZ) == audio.FRAME_SAMPLES
