"""Reading the speech generator out of a checkpoint."""

from __future__ import annotations

import pytest

from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.speech_gen.model.weights import load_generator
from tests.support.golden_speech import CHECKPOINT


def test_tensor_of_another_shape_is_named() -> None:
    checkpoint = Checkpoint.open(CHECKPOINT)
    checkpoint.config = {**checkpoint.config, "audio_num_codebooks": 7}
    with pytest.raises(CheckpointError, match=r"embed_audio_tokens.weight: expected shape \[14357, 48\]"):
        load_generator(checkpoint, slots=1)
