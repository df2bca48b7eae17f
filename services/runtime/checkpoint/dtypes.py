"""Torch tensors to and from raw numpy arrays: float32 values, or bfloat16 bit patterns in uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Compute dtypes by their setting's name."""


def to_raw(tensor: torch.Tensor) -> Any:
    """A numpy array of a float32 or bfloat16 tensor of any shape; bfloat16 becomes its bits in uint16."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.float().numpy()


def from_raw(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of `dtype` from what `to_raw` gave, whichever of the two dtypes that was."""
    tensor = torch.from_numpy(array.copy())
    if tensor.dtype == torch.uint16:
        tensor = tensor.view(torch.bfloat16)
    return tensor.to(dtype)
