"""Reads the tensors of a checkpoint by name, and checks each for the shape that the model expects."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.mapped_memory import page_out
from services.runtime.checkpoint.quantized import Matrix, QuantizedWeight, WeightFormat, quantize
from services.runtime.checkpoint.quantized_layout import Quantization, check_format, parts_of


@dataclass(frozen=True)
class Weights:
    """The tensors whose names begin with `prefix`. They are read in one dtype, on one device.

    `format` is that of the matrices of linear layers. "as-stored": in `dtype`, or in the bits of a quantised
    checkpoint.
    """

    checkpoint: Checkpoint
    dtype: torch.dtype
    device: torch.device | str = "cpu"
    prefix: str = ""
    format: WeightFormat = "as-stored"

    @property
    def is_quantized(self) -> bool:
        """Whether matrices are read as `QuantizedWeight`."""
        return self._quantization() is not None or self.format != "as-stored"

    def below(self, name: str) -> Weights:
        """The tensors below `name`, such as "backbone.model"."""
        return replace(self, prefix=f"{self.prefix}{name}.")

    def read(self, name: str, *shape: int) -> Tensor:
        """Read one tensor. Raises `CheckpointError` when it is missing or has another shape."""
        self._check(name, shape)
        return self.checkpoint.tensor(self.prefix + name, dtype=self.dtype, device=self.device)

    def matrix(self, name: str, outputs: int, inputs: int) -> Matrix:
        """Read the matrix [outputs, inputs] of a linear layer in `format`.

        Raises `CheckpointError` as `read` does, and when the checkpoint is quantised in another format.
        """
        stored = self._quantization()
        if stored is not None:
            expected = parts_of(self.prefix + name, outputs, inputs, stored)
            for part, (_, shape) in expected.items():
                self._check(part.removeprefix(self.prefix), shape)
            return QuantizedWeight(*(self._part(part, dtype) for part, (dtype, _) in expected.items()))
        if self.format == "as-stored":
            return self.read(name, outputs, inputs)
        self._check(name, (outputs, inputs))
        source = self.checkpoint.tensor(self.prefix + name)
        return self._quantized(source, name)

    def codebook_heads(self, name: str, codebooks: int, inputs: int, outputs: int) -> list[Matrix]:
        """Read heads that are stored as [codebooks, inputs, outputs], each as a matrix [outputs, inputs].

        A quantised checkpoint stores them as one matrix [codebooks * outputs, inputs].
        """
        if self._quantization() is not None:
            whole = self.matrix(name, codebooks * outputs, inputs)
            assert isinstance(whole, QuantizedWeight)
            return [whole.rows(k * outputs, (k + 1) * outputs) for k in range(codebooks)]
        if self.format == "as-stored":
            return [head.t() for head in self.read(name, codebooks, inputs, outputs)]
        self._check(name, (codebooks, inputs, outputs))
        return [self._quantized(head.t(), name) for head in self.checkpoint.tensor(self.prefix + name)]

    def fill(self, module: nn.Module) -> None:
        """Read the parameters and persistent buffers of `module` and freeze it. It may be on the meta device.

        On the CPU and in the stored dtype, the parameters are the mapped file itself. Raises as `read` does.
        """
        tensors = {name: self.read(name, *expected.shape) for name, expected in module.state_dict().items()}
        module.load_state_dict(tensors, assign=True)
        module.requires_grad_(False)

    def _quantization(self) -> Quantization | None:
        stored = self.checkpoint.quantization
        check_format(stored, self.format)
        return stored

    def _quantized(self, source: Tensor, name: str) -> QuantizedWeight:
        """A matrix in `format`, on the device. The mapped file that it was read from leaves the memory."""
        bits = 8 if self.format == "int8" else 4
        weight = quantize(source, bits, name=self.prefix + name).to(self.device)
        page_out([source])
        return weight

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        full_name = self.prefix + name
        found = self.checkpoint.shape(full_name)
        if found != shape:
            raise CheckpointError(
                f"{self.checkpoint.path}: tensor {full_name}: expected shape {list(shape)}, found {list(found)}"
            )

    def _part(self, full_name: str, dtype: torch.dtype) -> Tensor:
        """A tensor of a quantised matrix, which has its own dtype whatever the compute dtype is."""
        tensor = self.checkpoint.tensor(full_name)
        if tensor.dtype != dtype:
            raise CheckpointError(
                f"{self.checkpoint.path}: tensor {full_name}: expected dtype {dtype}, found {tensor.dtype}"
            )
        return tensor.to(self.device)
