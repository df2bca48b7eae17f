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
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from services.common.errors import CheckpointError
from services.runtime.checkpoint.folder import has_file, read_json
from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.checkpoint.quantized_layout import (
    CONFIG_KEY,
    Quantization,
    check_format,
    read_quantization,
    scheme_fingerprint,
)
from services.runtime.checkpoint.shards import TensorEntry, open_shard, read_entries

HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.jinja"]

AUDIO_TABLE_NAMES = (
    "backbone.audio_embedding.embed_audio_tokens.weight",
    "decoder.audio_embedding.embed_audio_tokens.weight",
)
"""The two names of the table that backbone and decoder share. A checkpoint stores it under one of them or both."""

_SAMPLE_BYTES = 64


class Checkpoint:
    """An open checkpoint. Made by `Checkpoint.open`. Used by one thread at a time.

    Attributes:
        path: the local folder.
        config: the raw config.json.
        generation_config: the raw generation_config.json, or {} when there is none.
        quantization: how the checkpoint is quantised, or None.
    """

    def __init__(
        self, path: Path, config: dict[str, Any], generation_config: dict[str, Any], entries: Mapping[str, TensorEntry]
    ) -> None:
        self.path = path
        self.config = config
        self.generation_config = generation_config
        self.quantization: Quantization | None = read_quantization(config)
        self._entries = entries
        self._maps: dict[Path, Any] = {}

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Open a local folder, or fetch a hub id (`organisation/name`) with a progress bar.

        Raises `CheckpointError` when the folder, its config.json, a shard or part of a shard is missing, or when a file
        is not what its name says.
        """
        path = _local_folder(source)
        config = read_json(path, "config.json")
        name = "generation_config.json"
        generation_config = read_json(path, name) if has_file(path, name) else {}
        return cls(path, config, generation_config, read_entries(path))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that identify configuration and weights. Sharding and folder do not change them.

        A quantised checkpoint has the fingerprint of its source: hidden states, voices and codes of both fit together.
        When its tensors are not those that were quantised, it has one of its own.
        """
        if self.quantization is not None and self.quantization.tensors == self.tensors_digest:
            return self.quantization.source
        return self.tensors_digest

    def weight_format(self, wanted: WeightFormat) -> WeightFormat:
        """The format in which the linear layers are served. Raises `CheckpointError` for a format that cannot be had
        from this checkpoint."""
        if self.quantization is None:
            return wanted
        check_format(self.quantization, wanted)
        return self.quantization.format

    def weights_fingerprint(self, weights: WeightFormat) -> str:
        """16 hex digits that identify the weights as they are served: the checkpoint and their format."""
        if self.quantization is not None:
            return scheme_fingerprint(self.fingerprint, self.quantization.format, self.quantization.group_size)
        return self.fingerprint if weights == "as-stored" else scheme_fingerprint(self.fingerprint, weights)

    @cached_property
    def tensors_digest(self) -> str:
        """16 hex digits of what the folder itself has.

        It hashes config.json, the name, dtype and shape of every tensor, and 64 bytes from the middle of each tensor:
        a few thousand small reads instead of 9 GB. Training changes every tensor and so the digest. An edit of other
        bytes of one tensor may not change it.
        """
        config = {key: value for key, value in self.config.items() if key != CONFIG_KEY}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
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
        entry = self._entries[name]
        try:
            mapped: torch.Tensor = self._map(entry.shard).get_tensor(name)
        except (SafetensorError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{entry.shard}: tensor {name} of dtype {entry.dtype} cannot be read: {error}"
            ) from error
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
            self._maps[shard] = open_shard(shard)
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
