"""Conversion of tensors to and from raw numpy arrays: float32 values, or the bits of bfloat16 values in uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Compute dtypes, by the name that the settings use."""


def to_raw(tensor: torch.Tensor) -> Any:
    """Convert a float32 or bfloat16 tensor of any shape to a numpy array. bfloat16 values become uint16."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.float().numpy()


def from_raw(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Convert an array of `to_raw`, of either dtype, to a tensor of `dtype`."""
    tensor = torch.from_numpy(array.copy())
    if tensor.dtype == torch.uint16:
        tensor = tensor.view(torch.bfloat16)
    return tensor.to(dtype)
