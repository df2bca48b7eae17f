"""Opening checkpoints whole and broken, and what reading costs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from tests.support.golden_checkpoint import golden_checkpoint

GOLDEN = golden_checkpoint()
PROJECTION = "decoder.projection.weight"
SHARD_2 = "model-00002-of-00002.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "checkpoint"))


def write_single(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_sharded_tensors_are_found_by_name() -> None:
    checkpoint = Checkpoint.open(str(GOLDEN))
    assert checkpoint.shape(PROJECTION) == (24, 48)
    assert checkpoint.names("decoder.proj") == [PROJECTION]
    assert checkpoint.tensor(PROJECTION).std() > 0
    assert checkpoint.generation_config["transformers_version"] == "5.0.0rc0"


def test_single_file_needs_no_index(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_single(tmp_path / "one", {"a": torch.arange(3.0)}))
    assert checkpoint.names() == ["a"]
    assert checkpoint.tensor("a").tolist() == [0, 1, 2]
    assert checkpoint.generation_config == {}


@pytest.mark.parametrize("stored", AUDIO_TABLE_NAMES)
def test_tied_audio_table_is_read_under_either_name(tmp_path: Path, stored: str) -> None:
    checkpoint = Checkpoint.open(write_single(tmp_path / "tied", {stored: torch.ones(4, 2)}))
    assert all(checkpoint.tensor(name).shape == (4, 2) for name in AUDIO_TABLE_NAMES)


def test_tensor_is_converted_only_when_asked_and_only_when_floating(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_single(tmp_path / "c", {"f": torch.ones(2), "i": torch.ones(2).long()}))
    assert checkpoint.tensor("f").dtype == torch.float32
    assert checkpoint.tensor("f", dtype=torch.bfloat16).dtype == torch.bfloat16
    assert checkpoint.tensor("i", dtype=torch.bfloat16).dtype == torch.int64


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_single(tmp_path / "c", {"a": torch.ones(1)}))
    with pytest.raises(CheckpointError, match=r"tensor decoder\.projection\.weight is missing"):
        checkpoint.tensor(PROJECTION)
    with pytest.raises(CheckpointError, match=r"decoder\.\S* or backbone\.\S* is missing"):
        checkpoint.tensor(AUDIO_TABLE_NAMES[1])


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a folder or a hub id"):
        Checkpoint.open(tmp_path / "nothing")


def test_missing_config_is_said(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: missing"):
        Checkpoint.open(folder)


def test_folder_without_weights_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="found neither"):
        Checkpoint.open(tmp_path)


def test_listed_but_absent_shard_is_named(folder: Path) -> None:
    (folder / SHARD_2).unlink()
    with pytest.raises(CheckpointError, match=f"{SHARD_2}: shard is missing"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("kept_bytes", [4, 100, 1_000_000])
def test_truncated_shard_is_named(folder: Path, kept_bytes: int) -> None:
    whole = (folder / SHARD_2).read_bytes()
    (folder / SHARD_2).write_bytes(whole[:kept_bytes])
    with pytest.raises(CheckpointError, match=f"{SHARD_2}: truncated"):
        Checkpoint.open(folder)


def test_shard_without_a_tensor_the_index_lists_is_named(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["extra.weight"] = SHARD_2
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"{SHARD_2}: tensor extra.weight is missing"):
        Checkpoint.open(folder)


def test_fingerprint_follows_weights_and_config_but_not_place_or_sharding(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(1000.0), "b": torch.ones(7)}
    one = Checkpoint.open(write_single(tmp_path / "one", tensors)).fingerprint
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    (sharded / "config.json").write_text("{}")
    for name, tensor in tensors.items():
        save_file({name: tensor}, sharded / f"{name}.safetensors")
    weight_map = {name: f"{name}.safetensors" for name in tensors}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert Checkpoint.open(sharded).fingerprint == one

    trained = Checkpoint.open(write_single(tmp_path / "trained", {"a": tensors["a"] * 1.001, "b": tensors["b"]}))
    assert trained.fingerprint != one
    (tmp_path / "one" / "config.json").write_text('{"im_end_token_id": 1}')
    assert Checkpoint.open(tmp_path / "one").fingerprint != one


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/smaps")
def test_only_the_tensor_asked_for_becomes_resident(tmp_path: Path) -> None:
    large, small = torch.ones(8 << 20), torch.ones(1 << 10)
    folder = write_single(tmp_path / "mapped", {"large": large, "small": small})
    checkpoint = Checkpoint.open(folder)
    read = checkpoint.tensor("small")
    assert read.sum() == 1 << 10
    assert resident_bytes(folder / "model.safetensors") < large.nbytes / 8
    whole = checkpoint.tensor("large")
    assert whole.sum() == 8 << 20
    assert resident_bytes(folder / "model.safetensors") >= large.nbytes


def resident_bytes(file: Path) -> int:
    """Bytes of `file` that this process has in memory through its maps."""
    resident_kb, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        field = line.split()[0]
        if not field.endswith(":"):
            inside = line.endswith(str(file))
        elif inside and field == "Rss:":
            resident_kb += int(line.split()[1])
    return resident_kb * 1024
