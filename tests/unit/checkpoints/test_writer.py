"""Written checkpoints are complete and reproducible, and hold the same values in any sharding and dtype."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from checkpoints.__main__ import main
from checkpoints.report import inspect_checkpoint
from checkpoints.writer import checkpoint_size_bytes, write_checkpoint
from services.common.errors import AlreadyExists
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    assert main(["new", "tiny", str(folder), "--seed", "3"]) == 0
    return folder


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_new_checkpoint_is_servable_with_tokenizer_template_and_features(tiny: Path) -> None:
    checkpoint = Checkpoint.open(tiny)
    report = inspect_checkpoint(checkpoint)
    assert report.is_servable
    assert report.unexpected == ()
    assert sum(part.size_bytes for part in report.parts) == checkpoint_size_bytes("tiny", "float32")
    assert "<|im_start|>" in Tokenizer.from_checkpoint(checkpoint).chat_template
    features = json.loads((tiny / "preprocessor_config.json").read_text())
    assert (features["feature_size"], features["n_fft"], features["hop_length"]) == (128, 400, 160)


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tiny: Path, tmp_path: Path) -> None:
    write_checkpoint("tiny", tmp_path / "same", seed=3)
    assert file_bytes(tmp_path / "same") == file_bytes(tiny)
    write_checkpoint("tiny", tmp_path / "other", seed=4)
    assert Checkpoint.open(tmp_path / "other").fingerprint != Checkpoint.open(tiny).fingerprint


def test_sharding_changes_no_value(tiny: Path, tmp_path: Path) -> None:
    write_checkpoint("tiny", tmp_path / "shards", seed=3, shard_bytes=1_000_000)
    sharded, whole = Checkpoint.open(tmp_path / "shards"), Checkpoint.open(tiny)
    assert len({sharded.entry(name).shard for name in sharded.names()}) > 3
    assert sharded.fingerprint == whole.fingerprint
    assert all(torch.equal(sharded.tensor(name), whole.tensor(name)) for name in whole.names())


def test_bfloat16_holds_the_rounded_values_and_leaves_the_codec_in_float32(tiny: Path, tmp_path: Path) -> None:
    write_checkpoint("tiny", tmp_path / "bf16", seed=3, dtype="bfloat16")
    rounded, whole = Checkpoint.open(tmp_path / "bf16"), Checkpoint.open(tiny)
    for name in whole.names():
        expected = torch.float32 if name.startswith("codec_model.") else torch.bfloat16
        assert torch.equal(rounded.tensor(name), whole.tensor(name, dtype=expected)), name


def test_folder_in_use_is_left_alone(tiny: Path) -> None:
    before = file_bytes(tiny)
    with pytest.raises(AlreadyExists, match="expected a new or empty folder"):
        write_checkpoint("tiny", tiny)
    assert file_bytes(tiny) == before
