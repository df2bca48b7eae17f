"""Writes replies as audio files."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from gateway.audio.write import FileFormat, SoundFileWriter, whole_file

TONE = (np.sin(np.arange(72_000) * 0.05) * 8_000).astype("<i2")


def _streamed(file_format: FileFormat, chunk: int = 1_920) -> list[bytes]:
    writer = SoundFileWriter(file_format)
    grown = [writer.push(TONE[start : start + chunk].tobytes()) for start in range(0, len(TONE), chunk)]
    return [*grown, writer.finish()]


@pytest.mark.parametrize("file_format", ["wav", "flac", "mp3", "opus"])
def test_a_streamed_file_holds_the_sound(file_format: FileFormat) -> None:
    sound, rate_hz = soundfile.read(io.BytesIO(b"".join(_streamed(file_format))), dtype="int16")
    assert rate_hz == 24_000
    assert len(TONE) <= len(sound) < len(TONE) + 2_500  # mp3 pads its frames
    strength = np.abs(np.fft.rfft(np.asarray(sound[24_000:48_000], dtype=float)))
    assert abs(int(strength.argmax()) - 191) <= 1  # 0.05 rad a sample at 24 kHz


@pytest.mark.parametrize("file_format", ["wav", "mp3", "opus"])
def test_sound_leaves_long_before_the_end(file_format: FileFormat) -> None:
    grown = _streamed(file_format)
    assert sum(map(len, grown[: len(grown) // 2])) > sum(map(len, grown)) // 4


@pytest.mark.parametrize("file_format", ["wav", "flac"])
def test_a_whole_lossless_file_is_the_samples(file_format: FileFormat) -> None:
    sound, _ = soundfile.read(io.BytesIO(whole_file(file_format, TONE.tobytes())), dtype="int16")
    assert np.array_equal(sound, TONE)


@pytest.mark.parametrize("file_format", ["pcm", "pcm16"])
def test_pcm_is_the_bare_samples(file_format: FileFormat) -> None:
    assert b"".join(_streamed(file_format)) == TONE.tobytes() == whole_file(file_format, TONE.tobytes())
