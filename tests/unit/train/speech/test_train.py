"""The speech model learns a few sentences by heart."""

from __future__ import annotations

import pytest
import torch

from tests.support.tiny_speech_corpus import corpus_of, recording, table, tiny
from train.speech.examples import Corruption
from train.speech.model import SpeechModel
from train.speech.speaker_task import SpeakerTask
from train.speech.train import new_optimizer, train_step


@pytest.mark.slow
def test_loss_falls_on_a_few_sentences() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = tiny()
    voices = {"low": [recording(1), recording(2)], "high": [recording(3), recording(4)]}
    corpus = corpus_of(voices, {}, corruption=Corruption())
    model = SpeechModel(config, table())
    task = SpeakerTask(config.backbone.width, {"low": torch.tensor([1.0, 0.0]), "high": torch.tensor([0.0, 1.0])})
    optimizer = new_optimizer(model, task)
    for group in optimizer.param_groups:
        group["lr"] = 5e-3
    batches = corpus.batches(4)
    figures = [train_step(model, task, next(batches), optimizer) for _ in range(100)]
    first, last = figures[0], figures[-1]
    assert first["loss_0"] > 3.5
    assert last["loss_0"] < 1.0
    assert last["loss_depth"] < first["loss_depth"] - 3.0
    assert last["right_0"] > 0.8
    assert last["unlike"] < 0.1 < first["unlike"]
