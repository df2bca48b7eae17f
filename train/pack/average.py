"""Average two trainings of one stage.

Run `python -m train.pack.average build/nano/reasoner.safetensors earlier.safetensors`. The average of
two sets of weights, one trained further from the other, is often better than both (Wortsman et al. 2022, Model soups):
it keeps the gain of the later training and loses less of the earlier training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from train.optim.training_loop import load_artefact, save_artefact

Tensors = dict[str, torch.Tensor]


def mean_of(one: Tensors, other: Tensors) -> Tensors:
    """The mean of each tensor; integers are those of `one`. Raises `ValueError` unless names and shapes agree."""
    strange = one.keys() ^ other.keys()
    strange |= {name for name in one.keys() & other.keys() if one[name].shape != other[name].shape}
    if strange:
        raise ValueError(f"{len(strange)} tensors are not alike in both, among them {sorted(strange)[0]}")
    return {name: (tensor + other[name]) / 2 if tensor.is_floating_point() else tensor for name, tensor in one.items()}


def main(
    artefact: Annotated[Path, typer.Argument(help="An artefact; the mean replaces it.")],
    earlier: Annotated[Path, typer.Argument(help="A copy of it from before its further training.")],
) -> None:
    """Average an artefact with an earlier one."""
    save_artefact(artefact, mean_of(load_artefact(artefact), load_artefact(earlier)))


if __name__ == "__main__":
    typer.run(main)
