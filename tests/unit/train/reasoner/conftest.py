from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tones import tone_clips
from train.corpus.clip_index import Clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Clip], Path]:
    """Clips and the folder of their recordings."""
    folder = tmp_path_factory.mktemp("audio")
    return tone_clips(folder), folder
