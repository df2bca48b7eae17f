from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from chroma_voice.cli.conversation.question import Recording, read_recording
from chroma_voice.errors import InvalidArgument


def test_channels_are_averaged_and_the_rate_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "stereo.flac"
    left, right = np.full(1_000, 0.5), np.full(1_000, 0.25)
    soundfile.write(path, np.stack((left, right), axis=1), 11_025)
    recording = read_recording(path)
    assert recording.sample_rate_hz == 11_025
    assert recording.duration_s == 1_000 / 11_025
    assert set(np.frombuffer(recording.data, "<i2").tolist()) == {12_288}  # 0.375 of full scale


def test_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.array([2.0, -2.0]), 8_000, subtype="FLOAT")
    assert read_recording(path) == Recording(np.array([32_767, -32_768], "<i2").tobytes(), 8_000)


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.array([0.1, np.nan]), 8_000, subtype="FLOAT")
    with pytest.raises(InvalidArgument, match="finite"):
        read_recording(path)


def test_a_file_that_is_not_audio_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("not audio")
    with pytest.raises(InvalidArgument, match=r"notes\.wav: expected an audio file"):
        read_recording(path)
