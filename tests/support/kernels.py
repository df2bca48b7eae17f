"""Where our Triton kernels can be tested: on a CUDA device, or in Triton's interpreter if the package is there."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16
"""Triton's interpreter multiplies the bits of bfloat16 as if they were integers."""

if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a module with kernels is imported


def why_not() -> str:
    """Empty when kernels can run here."""
    if importlib.util.find_spec("triton") is None:
        return "the triton package is not installed"
    if DEVICE == "cpu" and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        return "no CUDA device, and Triton's interpreter takes NumPy below 2.4"
    return ""


NEEDS_KERNELS = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning"),  # the interpreter
]


def noise(seed: int, *shape: int) -> Tensor:
    """Normal float32 numbers, the same on any device."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(DEVICE, torch.float32)
