"""Compares the tensors of a checkpoint with those that its configuration requires."""

from __future__ import annotations

import math
from dataclasses import dataclass

from checkpoints.tensor_names import expected_tensors
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.quantized_layout import PART_SUFFIXES, quantized_tensors
from services.runtime.checkpoint.shards import TensorEntry

PART_PREFIXES = (
    ("audio tower", ("thinker.audio_tower.",)),
    ("thinker", ("thinker.model.",)),
    ("lm head", ("thinker.lm_head.",)),
    ("vision tower (never read)", ("thinker.visual.",)),
    ("audio table", AUDIO_TABLE_NAMES),
    ("backbone", ("backbone.",)),
    ("depth decoder", ("decoder.",)),
    ("codec", ("codec_model.",)),
)
"""A tensor belongs to the first part that has a prefix of its name."""

UNREAD_PREFIXES = ("thinker.visual.",)
"""Tensors of the published checkpoint that no service reads. They are neither missing nor unexpected."""


@dataclass(frozen=True)
class Part:
    """Totals of one part of the model. `dtypes` are safetensors' names."""

    name: str
    tensors: int
    parameters: int
    size_bytes: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class CheckpointReport:
    """The totals of each part and the differences. An entry of `wrong_shape` is (name, expected, found)."""

    parts: tuple[Part, ...]
    missing: tuple[str, ...]
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unexpected: tuple[str, ...]

    @property
    def is_servable(self) -> bool:
        """Whether every service finds all of its tensors. Unexpected tensors do no harm."""
        return not self.missing and not self.wrong_shape


def inspect_checkpoint(checkpoint: Checkpoint) -> CheckpointReport:
    """Compare names and shapes, without reading a tensor. Raises `CheckpointError` when config.json is unusable."""
    expected = expected_tensors(ChromaConfig.from_dict(checkpoint.config))
    if checkpoint.quantization is not None:
        expected = quantized_tensors(expected, checkpoint.quantization)
    stored = checkpoint.names()
    missing = [name for name in expected if name not in stored and name not in AUDIO_TABLE_NAMES]
    if not any(name in stored for name in AUDIO_TABLE_NAMES):
        missing.append(" or ".join(AUDIO_TABLE_NAMES))
    shapes = [(name, shape, checkpoint.shape(name)) for name, shape in expected.items() if name in stored]
    return CheckpointReport(
        parts=tuple(_parts(checkpoint, stored)),
        missing=tuple(missing),
        wrong_shape=tuple(entry for entry in shapes if entry[1] != entry[2]),
        unexpected=tuple(name for name in stored if name not in expected and not name.startswith(UNREAD_PREFIXES)),
    )


def _parts(checkpoint: Checkpoint, stored: list[str]) -> list[Part]:
    names_of: dict[str, list[str]] = {part: [] for part, _ in PART_PREFIXES}
    for name in stored:
        part = next((part for part, prefixes in PART_PREFIXES if name.startswith(prefixes)), None)
        names_of.setdefault(part or "other", []).append(name)
    parts: list[Part] = []
    for part, names in names_of.items():
        entries = [checkpoint.entry(name) for name in names]
        if entries:
            parts.append(
                Part(
                    part,
                    len(entries),
                    sum(_parameters(name, entry) for name, entry in zip(names, entries, strict=True)),
                    sum(entry.size_bytes for entry in entries),
                    tuple(sorted({entry.dtype for entry in entries})),
                )
            )
    return parts


def _parameters(name: str, entry: TensorEntry) -> int:
    """The parameters that a tensor holds: none in a scale or an offset, two in each byte of 4 bits."""
    if name.endswith(PART_SUFFIXES):
        return 0
    return math.prod(entry.shape) * (2 if entry.dtype == "U8" else 1)
