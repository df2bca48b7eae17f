"""Stage `hearing`: train the audio tower alone, from random weights.

Run `python -m train.hearing.train --minutes 45`. Two auxiliary heads spell each recording (CTC) and name its subject;
the checkpoint does not contain them. A tower that is trained alone learns words in unknown voices four times as fast as
in whole conversations. A GPU can use a larger batch: `--device cuda --batch 512 --workers 12 --minutes 5`. The stage
writes `hearing.safetensors`, from which train.reasoner.train starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from train.audio.augment import NEAR, AugmentationSettings
from train.corpus.clip_index import clips_to_train_on, read_manifest
from train.corpus.domain import load_domain
from train.corpus.vocabulary import nano_tokenizer, text_embedding
from train.hearing.auxiliary_tasks import AuxiliaryHeads, subject_numbers
from train.hearing.clip_batch import ClipBatch
from train.hearing.clip_feed import ClipFeed
from train.hearing.recordings import ClipReader
from train.optim.muon import MuonAndAdamW
from train.optim.stability import GuardedOptimizer, WeightAverage
from train.optim.training_loop import ROOT, Budget, Report, load_artefact, save_artefact, seed_everything
from train.pack.config import nano
from train.reasoner.model import PREFIX, ReasonerModel
from train.reasoner.validation import TACO, ValidationSet

TOWER = f"{PREFIX}audio_tower."
HEADS_PREFIX = "aids."
"""Of the auxiliary heads' tensors in hearing.safetensors."""

SUBJECT_WEIGHT = 1.0
"""Weight of the subject loss, beside the spelling loss."""

_PEAK_RATE = 3e-3
_SAVED_EVERY_S = 300.0

console = Console(width=120, highlight=False)


def hearing_artefact(model: ReasonerModel, heads: AuxiliaryHeads) -> dict[str, torch.Tensor]:
    """The tower's tensors under their names in the checkpoint, and the heads' tensors."""
    tower = {name: tensor for name, tensor in model.artefact().items() if name.startswith(TOWER)}
    return tower | {HEADS_PREFIX + name: tensor for name, tensor in heads.state_dict().items()}


def load_hearing(tensors: dict[str, torch.Tensor], model: ReasonerModel, heads: AuxiliaryHeads) -> None:
    """Load the weights of `hearing_artefact`. The heads stay unchanged when `tensors` has none (train.pack.unpack).

    Raises `RuntimeError` for a wrong name or shape.
    """
    for prefix, module in ((TOWER, model.audio_tower), (HEADS_PREFIX, heads)):
        assert isinstance(module, nn.Module)
        stored = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if stored or module is not heads:
            module.load_state_dict(stored)


def train_hearing(
    model: ReasonerModel,
    heads: AuxiliaryHeads,
    feed: Iterable[ClipBatch],
    budget: Budget,
    *,
    checkpoint_every_s: float = _SAVED_EVERY_S,
    checkpoint: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train the tower and the heads in place; at the end they hold the average of their last weights.

    `checkpoint` is called every `checkpoint_every_s` seconds, while they hold the averaged weights. Returns the
    spelling loss of each step.
    """
    device = model.lm_head.weight.device
    optimizer = GuardedOptimizer(MuonAndAdamW([model.audio_tower, heads]))
    trained = [p for p in (*model.audio_tower.parameters(), *heads.parameters()) if p.requires_grad]
    average = WeightAverage(trained, steps=100)
    losses: list[float] = []
    saved_at = time.monotonic()
    with Report("hearing", budget) as report:
        for _, clips in zip(budget.steps(), feed, strict=False):
            batch = clips.to(device)
            with torch.autocast(device.type, torch.bfloat16):
                letters, subject = heads(model.audio_embeddings(batch), batch)
            optimizer.step(letters + SUBJECT_WEIGHT * subject, budget.rate)
            average.update()
            losses.append(letters.item())
            report.add(letters=losses[-1], subject=subject.item(), skipped=optimizer.skipped)
            if time.monotonic() - saved_at > checkpoint_every_s:
                with average.applied():
                    checkpoint()
                saved_at = time.monotonic()
    average.adopt()
    return losses


def main(
    minutes: Annotated[float, typer.Option(help="Time to train.")] = 45.0,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    batch: Annotated[int, typer.Option(help="Recordings per step.")] = 48,
    workers: Annotated[int, typer.Option(help="Processes that prepare batches; 0: the training process.")] = 0,
    exam: Annotated[int, typer.Option(help="Held-out recordings to validate with every few minutes.")] = 240,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = _PEAK_RATE,
    near: Annotated[bool, typer.Option(help="Only recordings with little noise and room.")] = True,
    resume: Annotated[bool, typer.Option(help="Continue from the weights of hearing.safetensors.")] = False,
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
) -> None:
    """Train the audio tower on the questions of build/nano/audio and save it as hearing.safetensors."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    config, tokenizer, domain = nano(), nano_tokenizer(), load_domain()
    artefact, manifest = root / "hearing.safetensors", root / "audio" / "questions.jsonl"
    model = ReasonerModel(config, text_embedding()).to(device)
    heads = AuxiliaryHeads(config.thinker.text.width, len(subject_numbers(domain))).to(device)
    if resume:
        load_hearing(load_artefact(artefact), model, heads)
    validation = ValidationSet(config, tokenizer, domain)
    validation.add_clips(read_manifest(manifest), root / "audio", most=exam)
    validation.add_recording(*TACO)
    reader = ClipReader(root / "audio")
    if workers:
        reader.preload(clips_to_train_on(manifest))
    feed = ClipFeed(
        config,
        domain,
        lambda: clips_to_train_on(manifest),
        reader,
        batch=batch,
        seed=seed,
        augmentations=[NEAR] if near else [NEAR, AugmentationSettings()],
    )

    def checkpoint() -> None:
        save_artefact(artefact, hearing_artefact(model, heads))
        result = validation.check_subjects(model, heads.subject)
        console.print("subjects of held-out recordings:", *result.lines(), sep="\n  ")

    loader = DataLoader(feed, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    budget = Budget(minutes=minutes, peak_rate=rate, warm_up_steps=50)
    train_hearing(model, heads, loader, budget, checkpoint=checkpoint)
    checkpoint()


if __name__ == "__main__":
    typer.run(main)
