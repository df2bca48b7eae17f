"""Speeches in a batch do not change each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.tiny_speech import TinySpeech, tiny_speech
from train.speech.batch import SpeechBatch
from train.speech.positions import Speech, lay_out


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> TinySpeech:
    return tiny_speech(tmp_path_factory.mktemp("tiny"))


def test_other_speeches_and_padding_change_no_hidden_state(served: TinySpeech) -> None:
    dice = np.random.default_rng(7)
    speeches = [
        Speech([1, 2, 3], dice.integers(0, 500, (prompt, 8)), list(range(10, 10 + text)), dice.integers(0, 500, (n, 8)))
        for prompt, text, n in ((4, 3, 11), (9, 8, 5), (1, 1, 1))
    ]
    laid_out = [lay_out(served.config, speech) for speech in speeches]
    noise = [torch.randn(len(rows.hidden_at), served.config.backbone.width) for rows in laid_out]
    with torch.inference_mode():
        together = served.model.hidden(SpeechBatch.of(laid_out, torch.cat(noise)))
        alone = [served.model.hidden(SpeechBatch.of([r], h)) for r, h in zip(laid_out, noise, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)
