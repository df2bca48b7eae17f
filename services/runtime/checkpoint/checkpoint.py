"""A checkpoint in the published layout: config.json and safetensors, one file or shards with an index.

Opening reads the JSON files and the headers of the shards. A tensor is read on request, through a private memory map.
On the CPU and in its stored dtype, the tensor is the mapped file itself: nothing is copied, and pages that are not read
take no memory. (docs/model.md, section 8)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from services.common.errors import CheckpointError

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.jinja"]

AUDIO_TABLE_NAMES = (
    "backbone.audio_embedding.embed_audio_tokens.weight",
    "decoder.audio_embedding.embed_audio_tokens.weight",
)
"""The two names of the table that backbone and decoder share. A checkpoint stores it under one of them or both."""

_SAMPLE_BYTES = 64


@dataclass(frozen=True)
class TensorEntry:
    """The place of a tensor: `size_bytes` bytes from byte `start` of `shard`. `dtype` is safetensors' name."""

    shard: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


class Checkpoint:
    """An open checkpoint. Made by `Checkpoint.open`. Used by one thread at a time.

    Attributes:
        path: the local folder.
        config: the raw config.json.
        generation_config: the raw generation_config.json, or {} when there is none.
    """

    def __init__(
        self, path: Path, config: dict[str, Any], generation_config: dict[str, Any], entries: Mapping[str, TensorEntry]
    ) -> None:
        self.path = path
        self.config = config
        self.generation_config = generation_config
        self._entries = entries
        self._maps: dict[Path, Any] = {}

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Open a local folder, or fetch a hub id (`organisation/name`) with a progress bar.

        Raises `CheckpointError` when the folder, its config.json, a shard or part of a shard is missing.
        """
        path = _local_folder(source)
        config = _read_json(path / "config.json")
        generation_file = path / "generation_config.json"
        generation_config = _read_json(generation_file) if generation_file.exists() else {}
        return cls(path, config, generation_config, _read_entries(path))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that identify configuration and weights. Sharding and folder do not change them.

        It hashes config.json, the name, dtype and shape of every tensor, and 64 bytes from the middle of each tensor:
        a few thousand small reads instead of 9 GB. Training changes every tensor and so the fingerprint. An edit of
        other bytes of one tensor may not change it.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        files = {shard: shard.open("rb", buffering=0) for shard in {e.shard for e in self._entries.values()}}
        try:
            for name, entry in sorted(self._entries.items()):
                offset = entry.start + max(0, (entry.size_bytes - _SAMPLE_BYTES) // 2)
                sample = os.pread(files[entry.shard].fileno(), min(_SAMPLE_BYTES, entry.size_bytes), offset)
                digest.update(f"{name} {entry.dtype} {entry.shape}".encode() + sample)
        finally:
            for file in files.values():
                file.close()
        return digest.hexdigest()[:16]

    def names(self, prefix: str = "") -> list[str]:
        """Names of the stored tensors that start with `prefix`, sorted."""
        return sorted(name for name in self._entries if name.startswith(prefix))

    def entry(self, name: str) -> TensorEntry:
        """The place of tensor `name`, which is not read. Raises `CheckpointError` when it is missing."""
        return self._entries[self._find(name)]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of tensor `name`, which is not read. Raises `CheckpointError` when it is missing."""
        return self.entry(name).shape

    def tensor(
        self, name: str, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Read one tensor. A floating-point tensor is converted to `dtype`. None: the stored dtype.

        The result may be a private map of the file. Writing to it changes neither the file nor other maps of the file.
        Raises `CheckpointError` when the tensor is missing.
        """
        name = self._find(name)
        mapped: torch.Tensor = self._map(self._entries[name].shard).get_tensor(name)
        wanted = dtype if mapped.is_floating_point() else None
        return mapped.to(device=device, dtype=wanted or mapped.dtype)

    def _find(self, name: str) -> str:
        """The name under which tensor `name` is stored."""
        names = dict.fromkeys((name, *AUDIO_TABLE_NAMES)) if name in AUDIO_TABLE_NAMES else (name,)
        for candidate in names:
            if candidate in self._entries:
                return candidate
        raise CheckpointError(f"{self.path}: tensor {' or '.join(names)} is missing")

    def _map(self, shard: Path) -> Any:
        if shard not in self._maps:
            try:
                self._maps[shard] = safe_open(shard, framework="pt", device="cpu")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{shard}: cannot be mapped: {error}") from error
        return self._maps[shard]


def _local_folder(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path.resolve()
    if isinstance(source, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source):
        return _download(source)
    raise CheckpointError(f"checkpoint {source}: expected a folder or a hub id (organisation/name), found neither")


def _download(hub_id: str) -> Path:
    """Fetch the checkpoint's files into the hub cache unless they are in it already. Prints a progress bar."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=HUB_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {hub_id}: no such folder here, and it could not be fetched from the hub: {error}"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _read_entries(path: Path) -> dict[str, TensorEntry]:
    """Every tensor of the folder by name, from the shards of the index or from the single file."""
    index_file = path / INDEX_FILE
    if not index_file.exists():
        if not (path / SINGLE_FILE).exists():
            raise CheckpointError(f"{path}: expected {INDEX_FILE} or {SINGLE_FILE}, found neither")
        return _read_header(path / SINGLE_FILE)
    weight_map = _read_json(index_file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index_file}: expected a weight_map from tensor names to shards, found {weight_map!r}")
    shards = {shard: _read_header(path / shard) for shard in sorted(set(weight_map.values()))}
    absent = [(name, shard) for name, shard in weight_map.items() if name not in shards[shard]]
    if absent:
        name, shard = absent[0]
        raise CheckpointError(
            f"{path / shard}: tensor {name} is missing, which the index puts there ({len(absent)} such)"
        )
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def _read_header(shard: Path) -> dict[str, TensorEntry]:
    """The tensors that the header of a safetensors file lists. The file is: length (8 bytes), header (JSON), data."""
    try:
        with shard.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            header_bytes = int.from_bytes(file.read(8), "little")
            if size_bytes < 8 or header_bytes > size_bytes - 8:
                raise CheckpointError(
                    f"{shard}: truncated or not safetensors: {size_bytes} bytes end inside the header"
                )
            header = json.loads(file.read(header_bytes))
    except FileNotFoundError as error:
        raise CheckpointError(f"{shard}: shard is missing") from error
    except ValueError as error:
        raise CheckpointError(f"{shard}: header is not JSON: {error}") from error
    data_start = 8 + header_bytes
    entries: dict[str, TensorEntry] = {}
    for name, fields in header.items():
        if name == "__metadata__":
            continue
        start, end = fields["data_offsets"]
        if data_start + end > size_bytes:
            raise CheckpointError(
                f"{shard}: truncated: tensor {name} ends at byte {data_start + end}, the file at {size_bytes}"
            )
        entries[name] = TensorEntry(shard, fields["dtype"], tuple(fields["shape"]), data_start + start, end - start)
    return entries
