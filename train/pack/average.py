"""Average two trainings of one stage.

Run `python -m train.pack.average build/nano/reasoner.safetensors earlier.safetensors`. Two sets of weights that were
trained on from the same weights often do better averaged than alone (Wortsman et al. 2022, Model soups): the average
keeps what the later training gained and loses less of what the earlier one knew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from train.optim.training_loop import load_artefact, save_artefact

Tensors = dict[str, torch.Tensor]


def mean_of(one: Tensors, other: Tensors) -> Tensors:
    """The mean of each tensor; integers stay as they are. Raises `ValueError` unless both hold tensors alike."""
    strange = one.keys() ^ other.keys()
    strange |= {name for name in one.keys() & other.keys() if one[name].shape != other[name].shape}
    if strange:
        raise ValueError(f"{len(strange)} tensors are not alike in both, among them {sorted(strange)[0]}")
    return {name: (tensor + other[name]) / 2 if tensor.is_floating_point() else tensor for name, tensor in one.items()}


def main(
    artefact: Annotated[Path, typer.Argument(help="What a stage left; replaced by the mean.")],
    earlier: Annotated[Path, typer.Argument(help="A copy of it from before it was trained on.")],
) -> None:
    """Average an artefact with an earlier one."""
    save_artefact(artefact, mean_of(load_artefact(artefact), load_artefact(earlier)))


if __name__ == "__main__":
    typer.run(main)
