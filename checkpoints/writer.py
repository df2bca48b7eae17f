"""Writes a checkpoint of a preset with random weights, in the published layout, shard by shard.

Each core draws a tensor block by block and writes it to its place in the shard. The header of a shard is computed from
names and shapes before. So the memory is one block of values for each core, whatever the size of the checkpoint.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal

import torch

from checkpoints.presets import Preset, preset_config, special_tokens
from checkpoints.random_weights import RandomWeights
from checkpoints.tensor_names import expected_tensors
from checkpoints.tokenizer_files import find_qwen_file, vocabulary_for, write_tokenizer_files
from services.common.errors import AlreadyExists
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.shards import INDEX_FILE

DType = Literal["float32", "bfloat16"]
Progress = Callable[[int], None]
"""Called from any thread with the number of bytes that were written since the last call."""

SHARD_BYTES = 4 * 10**9
DATA_ALIGNMENT_BYTES = 64
"""Alignment of a shard's data. The format asks for 8 bytes. A cache line is faster for mapped matrices."""

_DTYPES: Mapping[str, tuple[str, torch.dtype, int]] = {
    "float32": ("F32", torch.float32, 4),
    "bfloat16": ("BF16", torch.bfloat16, 2),
}


def checkpoint_size_bytes(preset: Preset, dtype: DType) -> int:
    """The bytes of all tensors that `write_checkpoint` writes."""
    return sum(_size_bytes(name, shape, dtype) for name, shape in _stored_tensors(preset).items())


def write_checkpoint(
    preset: Preset,
    folder: Path,
    *,
    seed: int = 0,
    dtype: DType = "float32",
    endless: bool = False,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda written_bytes: None,
) -> str:
    """Write all files into `folder`, which is made if it is missing. Returns the origin of the vocabulary.

    The same preset, seed and dtype give the same bytes. The codec is always float32, as it is served. A turn of
    `endless` weights never ends by itself. Raises `AlreadyExists` when `folder` is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExists(f"{folder}: expected a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    config = preset_config(preset)
    specials = special_tokens(preset)
    typed = ChromaConfig.from_dict(config)
    vocabulary = vocabulary_for(specials, find_qwen_file())
    write_tokenizer_files(folder, vocabulary, specials, typed.thinker.audio.mel_bins)
    weights = RandomWeights(typed, vocabulary.words(), seed, endless)
    shards = _shards(_stored_tensors(preset), dtype, shard_bytes)
    weight_map: dict[str, str] = {}
    for number, shapes in enumerate(shards, start=1):
        file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        with (folder / file_name).open("wb") as file:
            _write_shard(file, shapes, weights, dtype, progress)
        weight_map |= dict.fromkeys(shapes, file_name)
    index = {"metadata": {"total_size": checkpoint_size_bytes(preset, dtype)}, "weight_map": weight_map}
    _write_json(folder / INDEX_FILE, index)
    _write_json(folder / "generation_config.json", {"do_sample": True, "temperature": 1.0, "top_k": 50})
    _write_json(folder / "config.json", {**config, "dtype": dtype})  # last: a folder without it is no checkpoint
    return vocabulary.origin


def _stored_tensors(preset: Preset) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors to write. The audio table has the decoder's name, as in the reference."""
    shapes = expected_tensors(ChromaConfig.from_dict(preset_config(preset)))
    del shapes[AUDIO_TABLE_NAMES[0]]
    return shapes


def _stored_dtype(name: str, dtype: DType) -> tuple[str, torch.dtype, int]:
    return _DTYPES["float32" if name.startswith("codec_model.") else dtype]


def _size_bytes(name: str, shape: tuple[int, ...], dtype: DType) -> int:
    return math.prod(shape) * _stored_dtype(name, dtype)[2]


def _shards(shapes: Mapping[str, tuple[int, ...]], dtype: DType, shard_bytes: int) -> list[dict[str, tuple[int, ...]]]:
    """Distribute the tensors in order. A shard ends before the tensor that would make it exceed `shard_bytes`."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled_bytes = 0
    for name, shape in shapes.items():
        size_bytes = _size_bytes(name, shape, dtype)
        if shards[-1] and filled_bytes + size_bytes > shard_bytes:
            shards.append({})
            filled_bytes = 0
        shards[-1][name] = shape
        filled_bytes += size_bytes
    return shards


def _write_shard(
    file: BinaryIO, shapes: Mapping[str, tuple[int, ...]], weights: RandomWeights, dtype: DType, progress: Progress
) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    offsets: dict[str, int] = {}
    for name, shape in shapes.items():
        offsets[name] = offset
        size_bytes = _size_bytes(name, shape, dtype)
        header[name] = {
            "dtype": _stored_dtype(name, dtype)[0],
            "shape": list(shape),
            "data_offsets": [offset, offset + size_bytes],
        }
        offset += size_bytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(8 + len(encoded)) % DATA_ALIGNMENT_BYTES)
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    file.flush()
    data_begins = file.tell()

    def write_tensor(name: str) -> None:
        at = data_begins + offsets[name]
        for block in weights.blocks(name, shapes[name]):
            values = block.to(_stored_dtype(name, dtype)[1]).contiguous().flatten().view(torch.uint8)
            at += os.pwrite(file.fileno(), values.numpy().data, at)
            progress(values.numel())

    with ThreadPoolExecutor(os.cpu_count()) as drawers:
        list(drawers.map(write_tensor, shapes))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
