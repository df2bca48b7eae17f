"""Headers and index files that lie are refused in a sentence, and nothing outside the folder is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.shards import INDEX_FILE, SINGLE_FILE, read_entries

SECRET = torch.arange(8, dtype=torch.float32)
PROPERTY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty checkpoint folder, beside a file that no checkpoint may read."""
    save_file({"secret": SECRET}, tmp_path / "outside.safetensors")
    inner = tmp_path / "checkpoint"
    inner.mkdir()
    (inner / "config.json").write_text("{}")
    return inner


def write(folder: Path, header: object, data: bytes = b"", name: str = SINGLE_FILE) -> None:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / name).write_bytes(len(raw).to_bytes(8, "little") + raw + data)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def test_a_true_header_is_read(folder: Path) -> None:
    write(folder, {"a": tensor(), "b": tensor(data_offsets=[8, 16]), "__metadata__": {"format": "pt"}}, bytes(16))
    assert sorted(read_entries(folder)) == ["a", "b"]
    assert Checkpoint.open(folder).tensor("b").tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        {"a": 1},
        {"a": []},
        {"a": {}},
        {"a": tensor(dtype="F31")},
        {"a": tensor(dtype=32)},
        {"a": tensor(shape=[3])},
        {"a": tensor(shape=[-2])},
        {"a": tensor(shape="2")},
        {"a": tensor(shape=[2.0])},
        {"a": tensor(shape=[1 << 62, 1 << 62])},
        {"a": tensor(data_offsets=[0, 16])},
        {"a": tensor(data_offsets=[-8, 0])},
        {"a": tensor(data_offsets=[8, 0])},
        {"a": tensor(data_offsets=[0])},
        {"a": tensor(data_offsets=[0, 4])},
        {"a": tensor(data_offsets=[0, 1 << 70])},
        {"a": tensor(data_offsets={"0": 8})},
        {"a": tensor(), "b": tensor()},
        {"a": tensor(), "b": tensor(data_offsets=[4, 12])},
        {"a": tensor(data_offsets=[4, 12])},
        {"\ud800": tensor()},
    ],
    ids=lambda header: str(header)[:60],
)
def test_a_header_that_does_not_describe_its_file_is_refused(header: object, folder: Path) -> None:
    write(folder, header, bytes(8))
    with pytest.raises(CheckpointError):
        read_entries(folder)


def test_a_header_longer_than_any_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / SINGLE_FILE).open("wb") as file:
        file.write((200_000_000).to_bytes(8, "little"))
        file.truncate(200_000_100)
    with pytest.raises(CheckpointError, match="expected a header of at most"):
        read_entries(folder)


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "{parent}/outside.safetensors",
        "a/../../outside.safetensors",
        "..",
        ".",
        "",
        "a\0b",
        "a\\b",
    ],
)
def test_an_index_that_climbs_out_of_its_folder_is_refused(shard: str, folder: Path) -> None:
    name = shard.replace("{parent}", str(folder.parent))
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": {"secret": name}}))
    with pytest.raises(CheckpointError, match="expected the name of a file in this folder"):
        read_entries(folder)


@pytest.mark.parametrize("name", [SINGLE_FILE, "config.json", "generation_config.json", INDEX_FILE])
def test_a_link_that_leads_out_of_the_folder_is_refused(name: str, folder: Path) -> None:
    write(folder, {"a": tensor()}, bytes(8))
    target = folder.parent / "elsewhere"
    target.write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    with pytest.raises(CheckpointError, match="a link that leads out of it"):
        Checkpoint.open(folder)


def test_links_of_the_hubs_cache_and_to_files_of_the_folder_are_followed(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    save_file({"a": SECRET}, blobs / "1234")
    (snapshot / "first.safetensors").symlink_to(Path("../../blobs/1234"))
    (snapshot / SINGLE_FILE).symlink_to("first.safetensors")
    assert list(read_entries(snapshot)) == ["a"]


@pytest.mark.parametrize(
    "index",
    [
        [],
        {},
        *({"weight_map": weight_map} for weight_map in ([], {}, "a", {"a": 1}, {"a": ["b"]}, {"a": None})),
        {"weight_map": {"a": "missing.safetensors"}},
    ],
)
def test_an_index_of_another_kind_is_refused(index: object, folder: Path) -> None:
    (folder / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(CheckpointError):
        read_entries(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "I64", "F8_E4M3", "BOOL", "X"]) | JSON,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-4, 70), min_size=2, max_size=2) | JSON,
    },
)
HEADERS = st.dictionaries(st.text(max_size=8), FIELDS | JSON, max_size=3) | JSON


@PROPERTY
@given(header=HEADERS, data=st.binary(max_size=64))
def test_any_header_is_read_whole_or_refused(header: object, data: bytes, folder: Path) -> None:
    write(folder, header, data)
    try:
        checkpoint = Checkpoint.open(folder)
    except CheckpointError:
        return
    assert len(checkpoint.fingerprint) == 16
    for name in checkpoint.names():
        try:
            found = checkpoint.tensor(name)
        except CheckpointError:
            continue
        assert tuple(found.shape) == checkpoint.shape(name)


@PROPERTY
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes, folder: Path) -> None:
    (folder / SINGLE_FILE).write_bytes(content)
    try:
        read_entries(folder)
    except CheckpointError:
        return


@PROPERTY
@given(at=st.integers(0, 160), value=st.integers(0, 255))
def test_a_file_with_any_byte_changed_is_read_or_refused(at: int, value: int, folder: Path) -> None:
    raw = bytearray(save({"first": SECRET, "second": SECRET.bfloat16()}))
    raw[at % len(raw)] = value
    (folder / SINGLE_FILE).write_bytes(raw)
    try:
        checkpoint = Checkpoint.open(folder)
        for name in checkpoint.names():
            checkpoint.tensor(name)
    except CheckpointError:
        return


@PROPERTY
@given(
    index=st.fixed_dictionaries({"weight_map": st.dictionaries(st.text(), st.text() | JSON, max_size=4) | JSON}) | JSON
)
def test_any_index_is_read_or_refused_and_finds_no_tensor_of_another_folder(index: object, folder: Path) -> None:
    (folder / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(CheckpointError):
        read_entries(folder)
