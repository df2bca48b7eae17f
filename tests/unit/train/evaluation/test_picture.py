"""The spectrogram has a tone in its bin, and the picture is written."""

from pathlib import Path

import numpy as np
import soundfile

from train.evaluation.picture import Pair, draw, spectrogram_db

TONE = (0.5 * np.sin(2 * np.pi * 3000 * np.arange(24_000) / 24_000)).astype(np.float32)


def test_a_tone_is_the_loudest_bin_all_along() -> None:
    levels = spectrogram_db(TONE)

    assert (levels[2:-2].argmax(axis=1) == 3000 * 1024 // 24_000).all()
    assert levels.max() == 0.0


def test_the_picture_has_a_row_for_each_voice(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", TONE, 24_000)
    pair = Pair("ann", tmp_path / "tone.wav", tmp_path / "tone.wav")

    draw([pair], "A tone.", tmp_path / "deep" / "one.png")
    draw([pair, pair], "A tone.", tmp_path / "two.png")

    one, two = ((tmp_path / name).read_bytes() for name in ("deep/one.png", "two.png"))
    assert one.startswith(b"\x89PNG")
    assert int.from_bytes(two[20:24], "big") > int.from_bytes(one[20:24], "big")
