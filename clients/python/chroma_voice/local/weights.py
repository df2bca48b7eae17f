"""The number of weights that each service loads from a checkpoint, their dtype and their bits. Needs no torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_PREFIXES = {
    "reasoner": ("thinker.audio_tower.", "thinker.model.", "thinker.lm_head."),
    "speech_gen": ("backbone.", "decoder.", "thinker.model.embed_tokens."),
    "codec": ("codec_model.",),
}
"""Names of the tensors that each service loads. (docs/model.md, section 8)"""

_AUDIO_TABLES = ("backbone.audio_embedding.", "decoder.audio_embedding.")
"""Two names of the same table. A checkpoint may hold it under one of them or under both; it is loaded once."""

_EMBEDDINGS = ("embed_tokens.", "embed_audio_tokens.")
"""Parts of the names of embedding tables. All other large tensors are matrices of linear layers."""

_BYTES = {"float32": 4, "bfloat16": 2}
_QUANTIZED_BITS = {"int8": 8.0, "int4": 4.5}
"""Bits of a weight with its share of the scales and, in 4 bits, offsets of groups of 64."""
_MAX_FLOAT32_BYTES = 4 * 10**9
"""`auto` means float32 for a checkpoint of up to this size in float32, and bfloat16 for a larger one."""


class DType(StrEnum):
    """Compute dtypes that the user can choose."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class WeightFormat(StrEnum):
    """How the weights of linear layers are held."""

    AS_STORED = "as-stored"
    INT8 = "int8"
    INT4 = "int4"


@dataclass(frozen=True)
class Weights:
    """The weights that one service loads. `embeddings` of the parameters keep the dtype whatever `format` says."""

    parameters: int
    dtype: str
    format: str = "as-stored"
    embeddings: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of the weights in memory."""
        if self.format not in _QUANTIZED_BITS:
            return self.parameters * _BYTES[self.dtype]
        matrices = (self.parameters - self.embeddings) * _QUANTIZED_BITS[self.format] / 8
        return round(matrices) + self.embeddings * _BYTES[self.dtype]

    def __str__(self) -> str:
        return self.dtype if self.format not in _QUANTIZED_BITS else f"{self.format} and {self.dtype}"


def stored_format(folder: Path) -> str | None:
    """The format of a quantised checkpoint; None when it is not quantised or its config.json cannot be read."""
    try:
        section = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config")
        return {8: "int8", 4: "int4"}.get(section["bits"]) if section else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def count_embeddings(folder: Path) -> dict[str, int]:
    """Return how many of the weights of each service are in embedding tables. As `count_parameters`."""
    return _count(folder, lambda name: any(part in name for part in _EMBEDDINGS))


def count_parameters(folder: Path) -> dict[str, int]:
    """Return the number of weights that each service loads from `folder`; empty when the headers cannot be read."""
    return _count(folder, lambda name: True)


def _count(folder: Path, counts: Callable[[str], bool]) -> dict[str, int]:
    """The number of weights of each service in tensors whose names `counts` accepts.

    A checkpoint that is damaged or incomplete is reported by the services, which read all of it.
    """
    try:
        sizes = dict(_tensor_sizes(folder))
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return {}
    if any(name.startswith(_AUDIO_TABLES[0]) for name in sizes):
        sizes = {name: size for name, size in sizes.items() if not name.startswith(_AUDIO_TABLES[1])}
    if not sizes:
        return {}
    return {
        service: sum(size for name, size in sizes.items() if name.startswith(prefixes) and counts(name))
        for service, prefixes in _PREFIXES.items()
    }


def choose_dtype(asked: DType, parameters: Mapping[str, int]) -> DType:
    """Return `asked`. For `auto`: float32, or bfloat16 if the weights take more than 4 GB in float32."""
    if asked is not DType.AUTO:
        return asked
    is_small = sum(parameters.values()) * _BYTES["float32"] <= _MAX_FLOAT32_BYTES
    return DType.FLOAT32 if is_small else DType.BFLOAT16


def _tensor_sizes(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the number of values of every tensor, from the headers of the safetensors files."""
    for shard in sorted(folder.glob("*.safetensors")):
        with shard.open("rb") as file:
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            if header_bytes > shard.stat().st_size:
                raise ValueError(f"{shard} is no safetensors file")
            header = json.loads(file.read(header_bytes))
            if not isinstance(header, dict):
                raise ValueError(f"{shard} is no safetensors file")
        for name, entry in header.items():
            if name != "__metadata__" and not name.endswith((".weight_scale", ".weight_offset")):
                yield name, math.prod(entry["shape"]) * (2 if entry["dtype"] == "U8" else 1)
