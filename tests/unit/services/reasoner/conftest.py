"""The golden checkpoint's thinker, and a small tokenizer with the same ids for its control tokens."""

from __future__ import annotations

import pytest
import torch

from checkpoints.tokenizer_files import vocabulary_for, write_tokenizer_files
from services.reasoner.model.audio_tower import AudioTower
from services.reasoner.model.prompt import ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.golden_cases import CHECKPOINT, SPECIAL_IDS

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden_thinker() -> Thinker:
    return load_thinker(Checkpoint.open(CHECKPOINT), dtype=torch.float32)


@pytest.fixture(scope="session")
def golden_tower(golden_thinker: Thinker) -> AudioTower:
    return golden_thinker.tower


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer_files(folder, vocabulary_for(SPECIAL_IDS, None), SPECIAL_IDS, 128)
    return Tokenizer(
        (folder / "tokenizer.json").read_text(), chat_template=(folder / "chat_template.jinja").read_text()
    )


@pytest.fixture(scope="session")
def template(tokenizer: Tokenizer) -> ChatTemplate:
    return ChatTemplate(tokenizer, audio_id=SPECIAL_IDS["<|AUDIO|>"], im_end_id=SPECIAL_IDS["<|im_end|>"])
