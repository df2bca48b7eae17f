"""Reading the codec's tensors by name, shape-checked, always fp32 (docs/model.md, sections 6 and 8)."""

from __future__ import annotations

import torch

from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint


class Weights:
    """The tensors below one prefix of a checkpoint, on one device."""

    def __init__(self, checkpoint: Checkpoint, prefix: str, device: torch.device | str) -> None:
        self._checkpoint = checkpoint
        self._prefix = prefix
        self._device = device

    def below(self, name: str) -> Weights:
        """The tensors below `prefix.name`."""
        return Weights(self._checkpoint, f"{self._prefix}.{name}", self._device)

    def read(self, name: str, *shape: int) -> torch.Tensor:
        """Tensor `prefix.name` in fp32. Raises `CheckpointError` when it is missing or not of this shape."""
        full_name = f"{self._prefix}.{name}"
        found = tuple(self._checkpoint.shape(full_name))
        if found != shape:
            raise CheckpointError(
                f"{self._checkpoint.path}: tensor {full_name}: expected shape {list(shape)}, found {list(found)}"
            )
        return self._checkpoint.tensor(full_name, dtype=torch.float32, device=self._device)
