"""Common parts of the stages' training loops: time budget and learning rate, progress report, artefact files."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from safetensors.torch import load_file, save_file

ROOT = Path("build/nano")
"""The stages' default working folder."""

_SHOWN_EVERY = 50


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Budget:
    """Limit of a stage's steps, in minutes and optionally in steps, with a learning rate: warm-up, then a cosine.

    The rate depends on the spent share of the budget, so a stage of any length ends with a rate near zero.
    """

    def __init__(
        self, *, minutes: float, peak_rate: float, warm_up_steps: int = 100, max_steps: int | None = None
    ) -> None:
        self._seconds = 60.0 * minutes
        self._peak_rate = peak_rate
        self._warm_up_steps = warm_up_steps
        self._max_steps = max_steps
        self._began = 0.0
        self.step = 0

    def steps(self) -> Iterator[int]:
        """Step numbers from 0 until the budget is spent. The clock starts with the first step."""
        self._began = time.monotonic()
        while self.spent < 1.0:
            yield self.step
            self.step += 1

    @property
    def spent(self) -> float:
        """Spent share of the budget, 0 to 1."""
        by_time = (time.monotonic() - self._began) / self._seconds
        by_steps = self.step / self._max_steps if self._max_steps is not None else 0.0
        return min(1.0, max(by_time, by_steps))

    @property
    def rate(self) -> float:
        """Learning rate of the current step."""
        warm_up = min(1.0, (self.step + 1) / self._warm_up_steps)
        return self._peak_rate * warm_up * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * self.spent)))


class Report:
    """A progress bar of the budget, and every 50 steps a line with the mean of each figure over these steps."""

    def __init__(self, title: str, budget: Budget) -> None:
        self._budget = budget
        self._sums: dict[str, float] = {}
        self._count = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(width=120),
        )
        self._task = self._progress.add_task(title, total=1.0, figures="")

    def __enter__(self) -> Report:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.update(self._task, completed=1.0)
        self._progress.stop()

    def add(self, **figures: float) -> None:
        """Add the figures of one step."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if self._count == _SHOWN_EVERY:
            line = "  ".join(f"{name} {total / self._count:.4f}" for name, total in self._sums.items())
            self._progress.update(self._task, completed=self._budget.spent, figures=line)
            self._progress.print(f"step {self._budget.step + 1}  {line}")
            self._sums, self._count = {}, 0


def save_artefact(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors under these names, floats as float16. The file is replaced in one step, so it is never partial."""
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in tensors.items()
    }
    unfinished = path.with_suffix(".unfinished")
    save_file(halves, unfinished)
    unfinished.replace(path)


def load_artefact(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of `save_artefact`, floats as float32. Raises `FileNotFoundError` with the file's path."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; run the stage that makes it (docs/nano.md)")
    return {name: (t.float() if t.is_floating_point() else t) for name, t in load_file(path).items()}
