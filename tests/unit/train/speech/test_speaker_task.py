"""The auxiliary task: each frame's state is compared with the embedding of who speaks in its speech."""

from __future__ import annotations

import pytest
import torch

from tests.support.tiny_speech_corpus import corpus_of, recording
from train.speech.examples import Corruption
from train.speech.speaker_task import SpeakerTask

VOICES = {"low": [recording(1), recording(2)], "high": [recording(3, frames=12), recording(4, frames=12)]}
PRINTS = {"low": torch.tensor([1.0, 0.0]), "high": torch.tensor([0.0, 1.0])}


def test_every_frame_is_compared_with_its_own_speaker() -> None:
    batch = next(corpus_of(VOICES, {}, corruption=Corruption()).batches(6))
    assert set(batch.voices) <= VOICES.keys()
    task = SpeakerTask(2, PRINTS)
    with torch.no_grad():
        task.head.weight.copy_(torch.eye(2))
        task.head.bias.zero_()
    right = torch.stack([PRINTS[batch.voices[row // batch.length]] for row in batch.target_at.tolist()])
    assert task.loss(right, batch).item() == pytest.approx(0.0, abs=1e-6)
    assert task.loss(right.flip(1), batch).item() == pytest.approx(1.0, abs=1e-6)
    assert task.loss(-right, batch).item() == pytest.approx(2.0, abs=1e-6)
