"""Split a checkpoint into the artefacts of its stages: `python -m train.pack.unpack`.

Afterwards, one part can be trained again or further (--resume) without the original working folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from services.runtime.checkpoint.checkpoint import Checkpoint
from train.hearing.train import TOWER
from train.optim.training_loop import ROOT, save_artefact
from train.pack.assemble import ARTEFACTS, stage_of


def unpack(checkpoint: Checkpoint, root: Path) -> dict[str, int]:
    """Write the artefacts that `train.pack.assemble` joins, and hearing.safetensors with the tower but without heads.

    Returns the number of tensors of each.
    """
    parts: dict[str, dict[str, torch.Tensor]] = {name: {} for name in ARTEFACTS}
    for name in checkpoint.names():
        parts[stage_of(name)][name] = checkpoint.tensor(name)
    parts["hearing"] = {name: tensor for name, tensor in parts["reasoner"].items() if name.startswith(TOWER)}
    for stage, tensors in parts.items():
        save_artefact(root / f"{stage}.safetensors", tensors)
    return {stage: len(tensors) for stage, tensors in parts.items()}


def main(
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint's folder.")] = Path("models/chroma-nano"),
    root: Annotated[Path, typer.Option(help="Working folder; artefacts in it are replaced.")] = ROOT,
) -> None:
    """Write codec, speech, reasoner and hearing.safetensors into the working folder."""
    counts = unpack(Checkpoint.open(checkpoint), root)
    written = ", ".join(f"{stage}.safetensors ({count} tensors)" for stage, count in counts.items())
    Console(highlight=False, soft_wrap=True).print(f"{root}: {written}")


if __name__ == "__main__":
    typer.run(main)
