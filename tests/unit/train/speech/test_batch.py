"""Speeches in a batch do not change each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from checkpoints.writer import write_checkpoint
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.speech_gen.model.generator import Generator
from services.speech_gen.model.weights import load_generator
from train.speech.batch import SpeechBatch
from train.speech.model import SpeechModel
from train.speech.positions import Speech, lay_out

TEXT_TABLE = "thinker.model.embed_tokens.weight"


@dataclass(frozen=True)
class Served:
    """The service's model beside the training's, with the same random weights."""

    config: ChromaConfig
    generator: Generator
    model: SpeechModel


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint("tiny", folder, endless=True)
    checkpoint = Checkpoint.open(folder)
    config = ChromaConfig.from_dict(checkpoint.config)
    model = SpeechModel(config, checkpoint.tensor(TEXT_TABLE))
    names = [*checkpoint.names("backbone."), *checkpoint.names("decoder.")]
    model.load_state_dict({name: checkpoint.tensor(name) for name in names})
    return Served(config, load_generator(checkpoint, slots=1), model)


def test_other_speeches_and_padding_change_no_hidden_state(served: Served) -> None:
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
