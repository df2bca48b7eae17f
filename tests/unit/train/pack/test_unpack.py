"""A checkpoint that is split into artefacts and joined again is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.random_artefacts import SMALL, random_tensors
from train.hearing.train import TOWER
from train.optim.training_loop import load_artefact
from train.pack import assemble
from train.pack.assemble import read_artefacts
from train.pack.unpack import unpack


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
