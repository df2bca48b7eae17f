"""How tests run the Triton kernels: on a CUDA device, or else on the CPU in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16
"""A 16-bit dtype. Not bfloat16 in the interpreter, which multiplies the bits of bfloat16 as integers."""

if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # triton reads it when a module with kernels is imported


def why_not() -> str:
    """The reason why kernels cannot run here, empty when they can. Triton has wheels for Linux only."""
    if importlib.util.find_spec("triton") is None:
        return "the triton package is not installed"
    return ""


NEEDS_KERNELS = pytest.mark.skipif(bool(why_not()), reason=why_not())


def noise(seed: int, *shape: int) -> Tensor:
    """Normally distributed float32 numbers, the same on any device."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(DEVICE, torch.float32)
