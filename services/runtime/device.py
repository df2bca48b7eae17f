"""The device that a model process computes on."""

from __future__ import annotations

import torch

from services.common.errors import FailedPrecondition


def prepare_device(name: str, threads: int) -> None:
    """Check that a device can be used, and set the number of threads of a CPU forward pass (0: torch chooses).

    Raises FailedPrecondition, with torch's reason, when torch does not know the name, or when this machine or this
    build of torch does not have the device.
    """
    if threads:
        torch.set_num_threads(threads)
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FailedPrecondition(f"the device {name!r} cannot be used here: {reason}") from error
