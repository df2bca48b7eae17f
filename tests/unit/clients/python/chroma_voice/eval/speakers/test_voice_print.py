"""The speaker encoder takes the spoken part of a recording in overlapping parts."""

import numpy as np
import pytest

from chroma_voice.eval.speakers.voice_print import SAMPLE_RATE_HZ, VoicePrint, part_starts, spoken_part


def vowel(seconds: float, rms: float) -> np.ndarray:
    """A buzz at 120 Hz with a vowel's first formants, which a voice detector takes for speech."""
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    harmonics = [
        np.sin(2 * np.pi * 120 * number * time_s) / (1 + abs(120 * number - 700) / 300) for number in range(1, 30)
    ]
    wave = np.sum(harmonics, axis=0) * (1 + 0.5 * np.sin(2 * np.pi * 4 * time_s))
    return (wave * rms / np.sqrt(np.mean(wave**2))).astype(np.float32)


def test_a_long_silence_is_left_out() -> None:
    silence = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    spoken = spoken_part(np.concatenate([vowel(1.0, 0.1), silence, vowel(1.0, 0.1)]))

    assert 1.9 < len(spoken) / SAMPLE_RATE_HZ < 3.0


def test_silence_has_no_spoken_part() -> None:
    assert len(spoken_part(np.zeros(SAMPLE_RATE_HZ, np.float32))) == 0
    assert len(spoken_part(np.zeros(0, np.float32))) == 0


def test_quiet_speech_is_made_louder_and_loud_speech_is_left() -> None:
    assert np.abs(spoken_part(vowel(1.0, 0.003))).max() > 3 * np.abs(vowel(1.0, 0.003)).max()
    assert np.abs(spoken_part(vowel(1.0, 0.1))).max() == pytest.approx(np.abs(vowel(1.0, 0.1)).max(), rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(0.5, [0]), (1.6, [0]), (1.9, [0]), (2.2, [0, 77]), (4.0, [0, 77, 154, 231])],
)
def test_parts_overlap_and_a_last_part_with_little_sound_is_left_out(seconds: float, starts: list[int]) -> None:
    assert part_starts(round(seconds * SAMPLE_RATE_HZ)) == starts


def test_a_voice_is_a_vector_of_length_one_that_does_not_depend_on_loudness() -> None:
    encoder = VoicePrint().eval()
    quiet = encoder(vowel(2.5, 0.004))

    assert quiet.shape == (256,)
    assert np.linalg.norm(quiet) == pytest.approx(1.0, abs=1e-5)
    assert quiet @ encoder(vowel(2.5, 0.008)) == pytest.approx(1.0, abs=1e-3)


def test_silence_has_no_voice() -> None:
    with pytest.raises(ValueError, match="silence"):
        VoicePrint()(np.zeros(SAMPLE_RATE_HZ, np.float32))
