"""Writes a checkpoint with the matrices of its linear layers in 8 or 4 bits, shard by shard.

The result is in the published layout (services/runtime/checkpoint/quantized_layout.py), without the vision tower. The
memory is one tensor of the source at a time and, of the result, one shard.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from safetensors.torch import save_file
from torch import Tensor

from checkpoints.report import UNREAD_PREFIXES
from services.common.errors import AlreadyExists, CheckpointError
from services.runtime.checkpoint.checkpoint import HUB_PATTERNS, Checkpoint
from services.runtime.checkpoint.mapped_memory import page_out
from services.runtime.checkpoint.quantized import quantize
from services.runtime.checkpoint.quantized_layout import CODEBOOK_HEADS, CONFIG_KEY, Quantization, is_matrix, parts_of
from services.runtime.checkpoint.shards import INDEX_FILE, SINGLE_FILE

SHARD_BYTES = 10**9

Progress = Callable[[int], None]
"""Called with the bytes of the source that were read since the last call."""


def source_size_bytes(source: Checkpoint) -> int:
    """The bytes of all tensors of a checkpoint that are read."""
    return sum(source.entry(name).size_bytes for name in _names(source))


def _names(source: Checkpoint) -> list[str]:
    """The tensors that a service reads."""
    return [name for name in source.names() if not name.startswith(UNREAD_PREFIXES)]


def write_quantized(
    source: Checkpoint,
    folder: Path,
    *,
    bits: Literal[4, 8],
    group_size: int = 0,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda read_bytes: None,
) -> Quantization:
    """Write `source` into `folder`, which is made if it is missing, with its matrices in `bits`.

    `group_size` is for 4 bits; 0: the one that is chosen for each layer. Raises `AlreadyExists` when `folder` is not
    empty, and `CheckpointError` when the source is quantised already, or when a matrix cannot be quantised. Nothing is
    written then.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExists(f"{folder}: expected a new or empty folder")
    if source.quantization is not None:
        raise CheckpointError(
            f"{source.path}: already quantised as {source.quantization.format}: quantise the original checkpoint"
        )
    if bits == 8 and group_size:
        raise CheckpointError("8 bits have one scale for each output: expected no group size")
    _check_groups(source, Quantization(bits, group_size, "", ""))
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in HUB_PATTERNS:
        for file in source.path.glob(pattern):
            if file.suffix != ".safetensors" and file.name not in (INDEX_FILE, "config.json"):
                shutil.copyfile(file, folder / file.name)
    weight_map, total = _write_shards(source, folder, bits, group_size, shard_bytes, progress)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    config = folder / "config.json"
    config.write_text(json.dumps(source.config, indent=2) + "\n", encoding="utf-8")
    quantization = Quantization(bits, group_size, source.fingerprint, Checkpoint.open(folder).tensors_digest)
    described = {**source.config, CONFIG_KEY: quantization.to_dict()}
    config.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return quantization


def _check_groups(source: Checkpoint, quantization: Quantization) -> None:
    """Raises `CheckpointError` for a matrix with inputs that the group size does not divide."""
    for name in filter(is_matrix, source.names()):
        outputs, inputs = source.shape(name)[:2]  # also of the codebook heads, [codebooks, inputs, outputs]
        parts_of(name, outputs, inputs, quantization)


def _tensors(source: Checkpoint, name: str, bits: int, group_size: int) -> dict[str, Tensor]:
    """The tensors that hold tensor `name` in the result."""
    tensor = source.tensor(name)
    if not is_matrix(name):
        return {name: tensor}
    if name == CODEBOOK_HEADS:
        tensor = tensor.transpose(1, 2).flatten(0, 1)
    weight = quantize(tensor, bits, group_size=group_size or None, name=name)
    return dict(zip((name, f"{name}_scale", f"{name}_offset"), weight.tensors, strict=False))


def _write_shards(
    source: Checkpoint, folder: Path, bits: int, group_size: int, shard_bytes: int, progress: Progress
) -> tuple[dict[str, str], int]:
    """Write all tensors. Returns the shard of each, and the bytes of all."""
    weight_map: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(_shards(source, bits, group_size, shard_bytes, progress), start=1):
        file_name = SINGLE_FILE.replace(".safetensors", f"-{number:05d}.safetensors")
        save_file(shard, folder / file_name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file_name)
        total += sum(tensor.nbytes for tensor in shard.values())
        page_out(shard.values())
    return weight_map, total


def _shards(
    source: Checkpoint, bits: int, group_size: int, shard_bytes: int, progress: Progress
) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    filled = 0
    for name in _names(source):
        tensors = _tensors(source, name, bits, group_size)
        size_bytes = sum(tensor.nbytes for tensor in tensors.values())
        if shard and filled + size_bytes > shard_bytes:
            yield shard
            shard, filled = {}, 0
        shard |= {key: value.contiguous() for key, value in tensors.items()}
        filled += size_bytes
        if is_matrix(name):
            page_out([source.tensor(name)])
        progress(source.entry(name).size_bytes)
    yield shard
