from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def question(tmp_path: Path) -> Path:
    """One second of a tone in two channels at 22,050 Hz, as FLAC."""
    path = tmp_path / "question.flac"
    tone = 0.5 * np.sin(np.arange(22_050) / 20)
    soundfile.write(path, np.stack((tone, tone), axis=1), 22_050)
    return path
