"""Programmatic dependent launch: a kernel begins before the previous one has ended, and waits for its results.

Meanwhile it asks for its weights. So the time between two kernels of a step becomes shorter. CUDA graphs keep it.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

MIN_CAPABILITY = (9, 0)
"""Compute capability of the first devices that can do it."""


@functools.cache
def begins_early(device: torch.device) -> bool:
    """Whether kernels on this device begin before the one before them has ended."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= MIN_CAPABILITY


def early_options(device: torch.device) -> dict[str, Any]:
    """Options of the launch of a kernel that calls `wait_for_previous` (tiles_triton.py) in each of its programs."""
    return {"EARLY": True, "launch_pdl": True} if begins_early(device) else {"EARLY": False}
