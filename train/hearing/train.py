"""Stage `hearing`: train the audio tower alone, from random weights.

Run `python -m train.hearing.train --minutes 45`. Two auxiliary heads spell each recording (CTC) and name its subject;
the checkpoint does not contain them. In this way the tower learns words in unknown voices four times as fast as inside
whole conversations. A GPU can use a larger batch: `--device cuda --batch 512 --workers 12 --minutes 5`. The stage
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

from train.audio.augment import NEAR, Journey
from train.corpus.clip_index import clips_to_train_on, read_manifest
from train.corpus.domain import load_domain
from train.corpus.vocabulary import nano_tokenizer, text_embedding
from train.hearing.auxiliary_tasks import AuxiliaryHeads, subject_numbers
from train.hearing.clip_batch import ClipBatch
from train.hearing.clip_feed import ClipFeed
from train.hearing.recordings import Recordings
from train.optim.muon import MuonAndAdamW
from train.optim.stability import SteadySteps, WeightAverage
from train.optim.training_loop import ROOT, Budget, Report, load_artefact, save_artefact, seed_everything
from train.pack.config import nano
from train.reasoner.exam import TACO, Exam
from train.reasoner.model import PREFIX, ReasonerModel

TOWER = f"{PREFIX}audio_tower."
AIDS = "aids."

SUBJECT_WEIGHT = 1.0
"""Of the loss a clip, beside the loss a letter."""

_PEAK_RATE = 3e-3
_SAVED_EVERY_S = 300.0

console = Console(width=120, highlight=False)


def hearing_artefact(model: ReasonerModel, aids: AuxiliaryHeads) -> dict[str, torch.Tensor]:
    """The tower by its names in the checkpoint, and the heads."""
    tower = {name: tensor for name, tensor in model.artefact().items() if name.startswith(TOWER)}
    return tower | {AIDS + name: tensor for name, tensor in aids.state_dict().items()}


def load_hearing(tensors: dict[str, torch.Tensor], model: ReasonerModel, aids: AuxiliaryHeads) -> None:
    """Put the weights of `hearing_artefact` in place; the heads stay as they are where it has none (train.pack.unpack).

    Raises `RuntimeError` where a name or a shape is another.
    """
    for prefix, module in ((TOWER, model.audio_tower), (AIDS, aids)):
        assert isinstance(module, nn.Module)
        stored = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if stored or module is not aids:
            module.load_state_dict(stored)


def train_hearing(
    model: ReasonerModel,
    aids: AuxiliaryHeads,
    feed: Iterable[ClipBatch],
    budget: Budget,
    *,
    every_s: float = _SAVED_EVERY_S,
    pause: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train the tower and the heads in place; they end as the average of their last weights.

    `pause` is called every `every_s` seconds with the averaged weights in place. Returns each step's loss a letter.
    """
    device = model.lm_head.weight.device
    steps = SteadySteps(MuonAndAdamW([model.audio_tower, aids]))
    trained = [p for p in (*model.audio_tower.parameters(), *aids.parameters()) if p.requires_grad]
    average = WeightAverage(trained, steps=100)
    told: list[float] = []
    paused_at = time.monotonic()
    with Report("hearing", budget) as report:
        for _, clips in zip(budget.steps(), feed, strict=False):
            here = clips.to(device)
            with torch.autocast(device.type, torch.bfloat16):
                letters, subject = aids(model.heard(here), here)
            steps.step(letters + SUBJECT_WEIGHT * subject, budget.rate)
            average.update()
            told.append(letters.item())
            report.add(letters=told[-1], subject=subject.item(), skipped=steps.skipped)
            if time.monotonic() - paused_at > every_s:
                with average.applied():
                    pause()
                paused_at = time.monotonic()
    average.adopt()
    return told


def main(
    minutes: Annotated[float, typer.Option(help="Time to train.")] = 45.0,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    batch: Annotated[int, typer.Option(help="Recordings a step.")] = 48,
    workers: Annotated[int, typer.Option(help="Processes that prepare batches; 0: the training process.")] = 0,
    exam: Annotated[int, typer.Option(help="Held-out recordings to ask every few minutes.")] = 240,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = _PEAK_RATE,
    near: Annotated[bool, typer.Option(help="Only recordings with little noise and room.")] = True,
    resume: Annotated[bool, typer.Option(help="Go on from the weights of hearing.safetensors.")] = False,
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
) -> None:
    """Train the audio tower on the questions of build/nano/audio and save it as hearing.safetensors."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    config, tokenizer, domain = nano(), nano_tokenizer(), load_domain()
    artefact, manifest = root / "hearing.safetensors", root / "audio" / "questions.jsonl"
    model = ReasonerModel(config, text_embedding()).to(device)
    aids = AuxiliaryHeads(config.thinker.text.width, len(subject_numbers(domain))).to(device)
    if resume:
        load_hearing(load_artefact(artefact), model, aids)
    questions = Exam(config, tokenizer, domain)
    questions.add_clips(read_manifest(manifest), root / "audio", most=exam)
    questions.add_recording(*TACO)
    recordings = Recordings(root / "audio")
    if workers:
        recordings.hold(clips_to_train_on(manifest))
    feed = ClipFeed(
        config,
        tokenizer,
        domain,
        lambda: clips_to_train_on(manifest),
        recordings,
        batch=batch,
        seed=seed,
        journeys=[NEAR] if near else [NEAR, Journey()],
    )

    def pause() -> None:
        save_artefact(artefact, hearing_artefact(model, aids))
        marks = questions.listen(model, aids.subject)
        console.print("subjects of held-out recordings:", *marks.lines(), sep="\n  ")

    loader = DataLoader(feed, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    train_hearing(model, aids, loader, Budget(minutes=minutes, peak_rate=rate, warm_up_steps=50), pause=pause)
    pause()


if __name__ == "__main__":
    typer.run(main)
