"""The files of a golden folder: tensors as `NAME.safetensors`, or compressed as `NAME.safetensors.xz`."""

from __future__ import annotations

import lzma
from pathlib import Path

import torch
from safetensors.torch import load, load_file


def golden_names(folder: Path) -> list[str]:
    """The names of the files in a folder, in order."""
    return sorted({path.name.split(".")[0] for path in folder.glob("*.safetensors*")})


def load_golden(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """All tensors of a file, by name. Raises FileNotFoundError."""
    plain = folder / f"{name}.safetensors"
    if plain.exists():
        return load_file(plain)
    return load(lzma.decompress(plain.with_name(f"{plain.name}.xz").read_bytes()))
