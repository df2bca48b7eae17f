"""One thread for all tests of training, like in training itself."""

from __future__ import annotations

import pytest
import torch

from tests.support.tiny_reasoner import TinyReasoner

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyReasoner:
    return TinyReasoner(tmp_path_factory.mktemp("tiny") / "checkpoint")
