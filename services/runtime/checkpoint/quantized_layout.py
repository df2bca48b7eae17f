"""How a quantised checkpoint is stored: the published layout, with the matrices of linear layers in 8 or 4 bits.

config.json has a `quantization_config`. A matrix `X.weight` is the whole numbers of `QuantizedWeight.values`. Beside it
are `X.weight_scale` and, in 4 bits, `X.weight_offset`. The heads of the depth decoder, which are stored as
[codebooks, inputs, outputs], become one matrix [codebooks * outputs, inputs]. All other tensors stay as they were.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from services.common.errors import CheckpointError
from services.runtime.checkpoint.config_section import integer, subsection
from services.runtime.checkpoint.quantized import WeightFormat, group_size_for

METHOD = "chroma-voice"
CONFIG_KEY = "quantization_config"
PART_SUFFIXES = (".weight_scale", ".weight_offset")
"""Ends of the names of the tensors beside a matrix."""

CODEBOOK_HEADS = "decoder.codebook_head.weight"

_MATRICES = re.compile(
    r"(thinker\.(model|audio_tower)|backbone\.model|decoder\.model)\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight"
    r"|thinker\.audio_tower\.layers\.\d+\.fc[12]\.weight"
    r"|thinker\.audio_tower\.proj\.weight|thinker\.lm_head\.weight"
    r"|backbone\.codebook0_head\.weight|decoder\.projection\.weight"
)


@dataclass(frozen=True)
class Quantization:
    """What the `quantization_config` of a checkpoint says.

    `group_size` is for 4 bits; 0: the one that `group_size_for` chooses for each layer. `source` is the fingerprint of
    the checkpoint that was quantised. `tensors` is the digest of the names, shapes and samples of the result.
    """

    bits: int
    group_size: int
    source: str
    tensors: str

    @property
    def format(self) -> WeightFormat:
        """The setting that means these bits."""
        return "int8" if self.bits == 8 else "int4"

    def to_dict(self) -> dict[str, Any]:
        """The `quantization_config`."""
        names = {"source_fingerprint": self.source, "tensors_digest": self.tensors}
        return {"quant_method": METHOD, "bits": self.bits, "group_size": self.group_size, **names}


def read_quantization(config: Mapping[str, Any]) -> Quantization | None:
    """The quantisation of a checkpoint with this config.json; None when it is not quantised.

    Raises `CheckpointError` for the formats of other tools and for values that make no sense.
    """
    if config.get(CONFIG_KEY) is None:
        return None
    section = subsection(config, CONFIG_KEY)
    method = section.get("quant_method")
    if method != METHOD:
        raise CheckpointError(
            f"config.json: the checkpoint is quantised with {str(method)[:100]!r}, which cannot be read here: serve "
            "the original with CHROMA_WEIGHTS=int8 or int4, or quantise it with `chroma-voice checkpoint quantize`"
        )
    bits, group_size = integer(section, "bits", 0), integer(section, "group_size", 0)
    if bits not in (4, 8):
        raise CheckpointError(f"config.json: {CONFIG_KEY}.bits: expected 4 or 8, found {bits}")
    if group_size % 2 or (group_size and bits == 8):
        raise CheckpointError(f"config.json: {CONFIG_KEY}.group_size: expected an even number, found {group_size}")
    names = [section.get(key) for key in ("source_fingerprint", "tensors_digest")]
    if not all(isinstance(name, str) and re.fullmatch(r"[0-9a-f]{16}", name) for name in names):
        raise CheckpointError(
            f"config.json: {CONFIG_KEY}: expected 16 hex digits in source_fingerprint and tensors_digest"
        )
    return Quantization(bits, group_size, str(names[0]), str(names[1]))


def check_format(quantization: Quantization | None, wanted: WeightFormat) -> None:
    """Raises `CheckpointError` when a quantised checkpoint is to be served in other bits than it has."""
    if quantization is not None and wanted not in ("as-stored", quantization.format):
        raise CheckpointError(
            f"the checkpoint is already quantised as {quantization.format} and cannot be served as {wanted}: set "
            f"CHROMA_WEIGHTS to as-stored or {quantization.format}, or serve the original checkpoint"
        )


def scheme_fingerprint(source: str, quantization: WeightFormat, group_size: int = 0) -> str:
    """16 hex digits that identify the weights that this quantisation of the checkpoint `source` gives."""
    return hashlib.sha256(f"{source} {quantization} {group_size}".encode()).hexdigest()[:16]


def is_matrix(name: str) -> bool:
    """Whether tensor `name` is quantised: the matrix of a linear layer of thinker, tower, backbone, depth decoder."""
    return name == CODEBOOK_HEADS or _MATRICES.fullmatch(name) is not None


Parts = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def parts_of(name: str, outputs: int, inputs: int, quantization: Quantization) -> Parts:
    """Names, dtypes and shapes of the tensors that hold the matrix `name` [outputs, inputs].

    Raises `CheckpointError` when no group size divides the inputs.
    """
    if quantization.bits == 8:
        return {
            name: (torch.int8, (outputs, inputs)),
            f"{name}_scale": (torch.float32, (outputs, 1)),
        }
    group_size = quantization.group_size or group_size_for(inputs, name)
    if inputs % group_size:
        raise CheckpointError(
            f"{name}: expected a group size that divides its {inputs} inputs, found {group_size}; "
            f"{group_size_for(inputs, name)} does"
        )
    groups = (torch.bfloat16, (outputs, inputs // group_size))
    return {name: (torch.uint8, (outputs, inputs // 2)), f"{name}_scale": groups, f"{name}_offset": groups}


def quantized_tensors(tensors: Mapping[str, tuple[int, ...]], quantization: Quantization) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a quantised checkpoint, from those of the original. Raises as `parts_of` does."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in tensors.items():
        if not is_matrix(name):
            shapes[name] = shape
            continue
        outputs, inputs = (shape[0] * shape[2], shape[1]) if name == CODEBOOK_HEADS else shape
        shapes |= {part: found for part, (_, found) in parts_of(name, outputs, inputs, quantization).items()}
    return shapes
