"""Clips are read from disk and become labelled recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from train.corpus.clip_index import Clip
from train.hearing.recordings import ClipReader


def test_recording_of_another_rate_is_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(800), 24_000)
    with pytest.raises(ValueError, match=r"a\.wav: expected 16000 Hz, found 24000"):
        ClipReader(tmp_path).read(Clip("a.wav", "voice", "a", "question", "low", 0.1, False))
