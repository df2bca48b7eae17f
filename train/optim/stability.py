"""Training stability: steps that skip exploding gradients, and an average of the weights."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

_LARGEST_NORM = 1.0
_EXPLOSION = 10.0
_REMEMBERED = 100


class GuardedOptimizer:
    """Clips gradients, and skips a step whose norm is NaN or ten times the median of the last hundred norms."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._norms: deque[float] = deque(maxlen=_REMEMBERED)
        self.skipped = 0

    def step(self, loss: Tensor, rate: float) -> None:
        """One step at this learning rate; a parameter group with a `scale` gets the rate times its scale."""
        loss.backward()
        norm = float(clip_grad_norm_(self._parameters, _LARGEST_NORM))
        known = len(self._norms) == _REMEMBERED
        if norm == norm and not (known and norm > _EXPLOSION * median(self._norms)):
            for group in self._optimizer.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)
            self._optimizer.step()
        else:
            self.skipped += 1
        if norm == norm:
            self._norms.append(norm)
        self._optimizer.zero_grad(set_to_none=True)


class WeightAverage:
    """An exponential average of parameters over about the last `steps` updates, less noisy than the last weights."""

    def __init__(self, parameters: Iterable[Tensor], steps: int = 500) -> None:
        self._parameters = list(parameters)
        self._averages = [parameter.detach().clone() for parameter in self._parameters]
        self._steps = steps
        self._updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Add the parameters' present values to the average. The first averages are over fewer steps."""
        self._updates += 1
        share = max(1.0 / self._steps, 10.0 / (10.0 + self._updates))
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            average.lerp_(parameter, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the parameters hold their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def adopt(self) -> None:
        """Write the averages into the parameters."""
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self._averages, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)
