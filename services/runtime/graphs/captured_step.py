"""One kind of step in a few fixed shapes: its staged inputs, its padding and its graphs.

On CUDA a step is rounded up to one of these shapes and replayed as a graph, because the host needs longer to launch
its kernels than the device to run them. On the CPU a step has exactly the shape that its streams need, and is computed
without a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from services.runtime.graphs.graphs import StepGraphs
from services.runtime.graphs.staging import Fields, StagingBuffer, new_blocks

Shape = TypeVar("Shape", bound=Hashable)


class CapturedStep(Generic[Shape]):
    """Steps of one kind. The caller rounds a step up to a shape, fills `inputs(shape)` and calls `run`.

    `compute(shape, tensors)` does the step's work on the device. A graph replays the launches of its capture. So
    `compute` must depend on the shape only, must not read a value back from the device, and must read and write memory
    that stays in place.

    Args:
        name: a name that no other steps of `graphs` have.
        shapes: every shape of a padded step, the largest first, so that the others fit in the memory of its graph.
        fields: the inputs of a step of a shape.
    """

    def __init__(
        self,
        name: str,
        graphs: StepGraphs,
        *,
        shapes: Sequence[Shape],
        fields: Callable[[Shape], Fields],
    ) -> None:
        self._name = name
        self._graphs = graphs
        self._fields = fields
        self._buffers: dict[Shape, StagingBuffer] = {}
        if graphs.padded:
            of_shapes = {shape: fields(shape) for shape in shapes}
            blocks = new_blocks(of_shapes.values(), graphs.device)
            self._buffers = {shape: StagingBuffer(some, blocks) for shape, some in of_shapes.items()}

    def inputs(self, shape: Shape) -> StagingBuffer:
        """The inputs of a step of this shape. All padded steps share one memory. Each other step has its own."""
        if self._graphs.padded:
            return self._buffers[shape]
        return StagingBuffer.new(self._fields(shape), self._graphs.device)

    def run(self, shape: Shape, inputs: StagingBuffer, compute: Callable[[Shape, Mapping[str, Tensor]], None]) -> None:
        """Copy the filled `inputs` to the device, then replay the step's graph. Without a graph, call `compute`."""
        inputs.send()
        tensors = inputs.device
        self._graphs.run((self._name, shape), lambda: compute(shape, tensors))

    @torch.inference_mode()
    def capture(self, compute: Callable[[Shape, Mapping[str, Tensor]], None]) -> None:
        """Capture a step of every shape, with padding only. Does nothing where steps are not padded."""
        for shape, inputs in self._buffers.items():
            inputs.fill()
            inputs.send()
            self._graphs.capture((self._name, shape), lambda shape=shape, inputs=inputs: compute(shape, inputs.device))
