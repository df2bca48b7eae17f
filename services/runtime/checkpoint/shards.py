"""The shards of a checkpoint: safetensors files, and the index that says which tensor is in which file.

A safetensors file is: the length of the header (8 bytes), the header (JSON), the data. The library checks the header:
its size, the dtypes, and that the tensors fill the data without holes or overlaps. It gives no offsets, so these are
read here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from services.common.errors import CheckpointError
from services.runtime.checkpoint.folder import file_in, has_file, parse_object, read_json

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

MAX_HEADER_BYTES = 100_000_000
"""Longest header: the library's own limit."""

MAX_SHARDS = 10_000
"""Most files of one checkpoint."""


@dataclass(frozen=True)
class TensorEntry:
    """The place of a tensor: `size_bytes` bytes from byte `start` of `shard`. `dtype` is safetensors' name."""

    shard: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


def read_entries(folder: Path) -> dict[str, TensorEntry]:
    """Every tensor of the folder by name, from the shards of the index or from the single file.

    Raises `CheckpointError` when a shard or part of one is missing, when a header does not describe its file, and when
    the index names a file that is not in the folder.
    """
    index_file = folder / INDEX_FILE
    if not has_file(folder, INDEX_FILE):
        if not has_file(folder, SINGLE_FILE):
            raise CheckpointError(f"{folder}: expected {INDEX_FILE} or {SINGLE_FILE}, found neither")
        return _read_header(file_in(folder, SINGLE_FILE))
    weight_map = read_json(folder, INDEX_FILE).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"{index_file}: expected a weight_map from tensor names to shards, found {_shown(weight_map)}"
        )
    for shard in weight_map.values():
        if not isinstance(shard, str):
            raise CheckpointError(f"{index_file}: expected the name of a shard, found {_shown(shard)}")
    names = sorted(set(weight_map.values()))
    if len(names) > MAX_SHARDS:
        raise CheckpointError(f"{index_file}: expected at most {MAX_SHARDS} shards, found {len(names)}")
    shards = {shard: _read_header(file_in(folder, shard)) for shard in names}
    absent = [(name, shard) for name, shard in weight_map.items() if name not in shards[shard]]
    if absent:
        name, shard = absent[0]
        raise CheckpointError(
            f"{folder / shard}: tensor {name} is missing, which the index puts there ({len(absent)} such)"
        )
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def open_shard(shard: Path) -> Any:
    """A map of a shard whose header the library has checked. Raises `CheckpointError`."""
    try:
        return safe_open(shard, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{shard}: cannot be mapped: {error}") from error


def _read_header(shard: Path) -> dict[str, TensorEntry]:
    """The tensors that the header of a safetensors file lists."""
    try:
        with shard.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            header_bytes = int.from_bytes(file.read(8), "little")
            if size_bytes < 8 or header_bytes > size_bytes - 8:
                raise CheckpointError(
                    f"{shard}: truncated or not safetensors: {size_bytes} bytes end inside the header"
                )
            if header_bytes > MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{shard}: expected a header of at most {MAX_HEADER_BYTES} bytes, found {header_bytes}"
                )
            header = parse_object(file.read(header_bytes), f"{shard}: header")
    except FileNotFoundError as error:
        raise CheckpointError(f"{shard}: shard is missing") from error
    except OSError as error:
        raise CheckpointError(f"{shard}: cannot be read: {error}") from error
    data_start = 8 + header_bytes
    entries = {
        name: _read_entry(shard, name, fields, data_start, size_bytes)
        for name, fields in header.items()
        if name != "__metadata__"
    }
    open_shard(shard)
    return entries


def _read_entry(shard: Path, name: str, fields: Any, data_start: int, size_bytes: int) -> TensorEntry:
    """One tensor of a header. Whether it agrees with the others is left to the library."""
    where = f"{shard}: tensor {name[:200]!r}"
    if not isinstance(fields, dict):
        raise CheckpointError(f"{where}: expected an object, found {_shown(fields)}")
    dtype: Any = fields.get("dtype")
    shape: Any = fields.get("shape")
    offsets: Any = fields.get("data_offsets")
    if not isinstance(dtype, str):
        raise CheckpointError(f"{where}: expected the name of a dtype, found {_shown(dtype)}")
    if not _are_counts(shape):
        raise CheckpointError(f"{where}: expected a shape of whole numbers from 0, found {_shown(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: expected the two data_offsets of its bytes, found {_shown(offsets)}")
    start, end = offsets
    if data_start + end > size_bytes:
        raise CheckpointError(
            f"{shard}: truncated: tensor {name} ends at byte {data_start + end}, the file at {size_bytes}"
        )
    return TensorEntry(shard, dtype, tuple(shape), data_start + start, end - start)


def _are_counts(numbers: Any) -> bool:
    """Whether this is a list of whole numbers from 0."""
    return isinstance(numbers, list) and all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers
    )


def _shown(value: Any) -> str:
    """A value of a file, short enough for a message."""
    return repr(value)[:200]
