"""Counts what a step launches on a GPU, on a machine without one: kernels are counted and not computed."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

RESULTS = ("codes", "out", "q", "normed", "total", "partial")
"""Parameters of the kernels that are written. They become 0, so that later operations find valid values."""
MEMORY_ONLY = {"empty", "new_empty", "empty_like", "detach", "alias", "_unsafe_view", "lift_fresh"}
"""Operations that are no views and launch nothing."""


class _Operations(TorchDispatchMode):
    def __init__(self, launched: Counter[str]) -> None:
        super().__init__()
        self._launched = launched

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and name not in MEMORY_ONLY:
            self._launched[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def count_launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """The number of launches by the name of the kernel or of PyTorch's operation, each of which counts as one."""
    from triton.runtime.interpreter import GridExecutor

    launched: Counter[str] = Counter()

    def skip(self: Any, *given: Any, **options: Any) -> None:
        launched[self.fn.__name__] += 1
        with _disable_current_modes():
            for name, value in zip(inspect.getfullargspec(self.fn).args, given, strict=False):
                if name in RESULTS:
                    value.zero_()

    with monkeypatch.context() as patched, _Operations(launched):
        patched.setattr(GridExecutor, "__call__", skip)
        yield launched
