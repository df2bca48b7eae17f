"""A checkpoint that is split into artefacts and joined again is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from checkpoints.random_weights import RandomWeights
from checkpoints.tensor_names import expected_tensors
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from train.corpus.vocabulary import nano_vocabulary, text_embedding
from train.hearing.train import TOWER
from train.optim.training_loop import load_artefact
from train.pack import assemble
from train.pack.assemble import read_artefacts
from train.pack.config import nano_config
from train.pack.unpack import unpack

SMALL = {
    **nano_config(),
    "codec_config": {**nano_config()["codec_config"], "num_filters": 4, "num_hidden_layers": 1},
}
"""nano with a narrower codec: where the weights themselves do not matter."""


def random_tensors(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What the stages leave, and the text table, as far as names and shapes go."""
    typed = ChromaConfig.from_dict(config)
    weights = RandomWeights(typed, nano_vocabulary().words(), seed=0)
    tensors = {
        name: torch.cat(list(weights.blocks(name, shape)))
        for name, shape in expected_tensors(typed).items()
        if name != AUDIO_TABLE_NAMES[0]
    }
    return {**tensors, assemble.TEXT_TABLE: text_embedding()}


def join(tensors: assemble.Tensors, folder: Path, config: dict[str, Any]) -> int:
    return assemble.assemble(tensors, config, folder, temperature=0.7, top_k=20)


def test_a_checkpoint_split_into_artefacts_and_joined_again_is_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    join(random_tensors(SMALL), folder, SMALL)
    counts = unpack(Checkpoint.open(folder), tmp_path)
    assert set(counts) == {*assemble.ARTEFACTS, "hearing"}
    assert all(name.startswith(TOWER) for name in load_artefact(tmp_path / "hearing.safetensors"))
    join(read_artefacts(tmp_path), tmp_path / "again", SMALL)
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name
