"""The tower for training gives the embeddings of the service's tower."""

from __future__ import annotations

import pytest
import torch

from services.reasoner.model.thinker import Thinker
from services.reasoner.model.weights import load_thinker
from tests.support.tiny_reasoner import TinyReasoner
from train.reasoner.model import ReasonerModel


@pytest.fixture(scope="module")
def served(tiny: TinyReasoner) -> Thinker:
    return load_thinker(tiny.checkpoint, dtype=torch.float32)


@pytest.fixture(scope="module")
def trained(tiny: TinyReasoner) -> ReasonerModel:
    model = tiny.new_model()
    model.load_artefact(tiny.tensors())
    return model


def test_tower_encodes_chunks_of_any_length_as_the_service_does(served: Thinker, trained: ReasonerModel) -> None:
    frames = [200, 3, 57, 199, 4, 130]
    chunks = [torch.randn(n, 128, generator=torch.Generator().manual_seed(n)) for n in frames]
    expected = torch.cat([served.tower([chunk])[0] for chunk in chunks])
    with torch.no_grad():
        mel = torch.nn.utils.rnn.pad_sequence(chunks, batch_first=True)
        rows = trained.audio_tower.encode(mel, torch.tensor(frames))
    torch.testing.assert_close(rows, expected, atol=1e-4, rtol=0)
