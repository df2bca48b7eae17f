"""Reads the tensors of a checkpoint by name, and checks each for the shape that the model expects."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint


@dataclass(frozen=True)
class Weights:
    """The tensors whose names begin with `prefix`. They are read in one dtype, on one device."""

    checkpoint: Checkpoint
    dtype: torch.dtype
    device: torch.device | str = "cpu"
    prefix: str = ""

    def below(self, name: str) -> Weights:
        """The tensors below `name`, such as "backbone.model"."""
        return replace(self, prefix=f"{self.prefix}{name}.")

    def read(self, name: str, *shape: int) -> Tensor:
        """Read one tensor. Raises `CheckpointError` when it is missing or has another shape."""
        full_name = self.prefix + name
        found = self.checkpoint.shape(full_name)
        if found != shape:
            raise CheckpointError(
                f"{self.checkpoint.path}: tensor {full_name}: expected shape {list(shape)}, found {list(found)}"
            )
        return self.checkpoint.tensor(full_name, dtype=self.dtype, device=self.device)

    def fill(self, module: nn.Module) -> None:
        """Read the parameters and persistent buffers of `module` and freeze it. It may be on the meta device.

        On the CPU and in the stored dtype, the parameters are the mapped file itself. Raises as `read` does.
        """
        tensors = {name: self.read(name, *expected.shape) for name, expected in module.state_dict().items()}
        module.load_state_dict(tensors, assign=True)
        module.requires_grad_(False)
