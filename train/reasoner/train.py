"""Stage `reasoner`: train the reasoner to answer, with the audio tower of train.hearing.train.

Run `python -m train.reasoner.train --minutes 45`. The model learns to answer spoken and typed questions, in
conversations, token by token. The auxiliary tasks of the tower (spelling, subjects) go on beside it. A GPU can use a
larger batch: `--device cuda --batch 256 --group 256 --workers 12 --minutes 7`. The stage writes `reasoner.safetensors`,
and into `hearing.safetensors` the heads that `--resume` needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from train.corpus.clip_index import clips_to_train_on, read_manifest, thinned
from train.corpus.domain import load_domain
from train.corpus.vocabulary import nano_tokenizer, text_embedding
from train.hearing.auxiliary_tasks import AuxiliaryHeads, subject_numbers
from train.hearing.recordings import Recordings
from train.hearing.train import SUBJECT_WEIGHT, hearing_artefact, load_hearing
from train.optim.muon import MuonAndAdamW
from train.optim.stability import SteadySteps, WeightAverage
from train.optim.training_loop import ROOT, Budget, Report, load_artefact, save_artefact, seed_everything
from train.pack.config import nano
from train.reasoner.conversation_batch import ConversationBatch
from train.reasoner.exam import TACO, Exam
from train.reasoner.model import ReasonerModel
from train.reasoner.question_feed import QuestionFeed

_PEAK_RATE = 2e-3
_REPLY_WEIGHT = 4.0
_HEARING_WEIGHT = (1.0, 0.1)
"""At the beginning and at the end."""
_SAVED_EVERY_S = 300.0

console = Console(width=120, highlight=False)


def losses(model: ReasonerModel, aids: AuxiliaryHeads, batch: ConversationBatch) -> tuple[Tensor, Tensor]:
    """The sum of the cross-entropies of a batch's reply tokens, and the loss of what is heard. bf16 inside."""
    with torch.autocast(batch.ids.device.type, torch.bfloat16):
        heard = model.heard(batch.clips)
        logits = model.logits(model.hidden(batch, heard))
        replies = F.cross_entropy(logits, batch.targets, reduction="sum")
        letters, subject = aids(heard, batch.clips)
        return replies, letters + SUBJECT_WEIGHT * subject


def _backward(
    model: ReasonerModel, aids: AuxiliaryHeads, groups: Sequence[ConversationBatch], weight: float
) -> tuple[Tensor, float, float]:
    """Gradients of all groups but the last, whose loss is returned; the step's losses a reply token, and of hearing."""
    tokens = sum(len(group.targets) for group in groups)
    loss: Tensor | None = None
    reply_loss = heard_loss = 0.0
    for group in groups:
        if loss is not None:
            loss.backward()
        replies, heard = losses(model, aids, group)
        loss = _REPLY_WEIGHT * replies / tokens + weight * heard / len(groups)
        reply_loss += replies.item() / tokens
        heard_loss += heard.item() / len(groups)
    assert loss is not None, "a step has a group"
    return loss, reply_loss, heard_loss


def train_reasoner(
    model: ReasonerModel,
    aids: AuxiliaryHeads,
    feed: Iterable[list[ConversationBatch]],
    budget: Budget,
    *,
    every_s: float = _SAVED_EVERY_S,
    pause: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train both in place; the model ends as the average of its last weights. Returns each step's loss a reply token.

    `pause` is called every `every_s` seconds with the averaged weights in the model.
    """
    device = model.lm_head.weight.device
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps = SteadySteps(MuonAndAdamW([model, aids]))
    average = WeightAverage(trained, steps=100)
    first, last = _HEARING_WEIGHT
    told: list[float] = []
    paused_at = time.monotonic()
    with Report("reasoner", budget) as report:
        for _, groups in zip(budget.steps(), feed, strict=False):
            weight = first + (last - first) * budget.spent
            loss, reply_loss, heard_loss = _backward(model, aids, [group.to(device) for group in groups], weight)
            steps.step(loss, budget.rate)
            average.update()
            told.append(reply_loss)
            report.add(reply=reply_loss, hearing=heard_loss, skipped=steps.skipped)
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
    batch: Annotated[int, typer.Option(help="Conversations a step.")] = 48,
    group: Annotated[int, typer.Option(help="Conversations run at once; a step has several such groups.")] = 12,
    workers: Annotated[int, typer.Option(help="Processes that prepare batches; 0: the training process.")] = 0,
    exam: Annotated[int, typer.Option(help="Held-out recordings to ask every few minutes.")] = 300,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = _PEAK_RATE,
    outside: Annotated[float, typer.Option(help="Share of the outside clips heard in each pass.")] = 1.0,
    resume: Annotated[bool, typer.Option(help="Go on from the weights of reasoner.safetensors.")] = False,
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
) -> None:
    """Train the reasoner on the questions of build/nano/audio and save it as reasoner.safetensors."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    config, tokenizer, domain = nano(), nano_tokenizer(), load_domain()
    artefact, ears, manifest = (
        root / "reasoner.safetensors",
        root / "hearing.safetensors",
        root / "audio/questions.jsonl",
    )
    model = ReasonerModel(config, text_embedding()).to(device)
    aids = AuxiliaryHeads(config.thinker.text.width, len(subject_numbers(domain))).to(device)
    if resume:
        model.load_artefact(load_artefact(artefact))
    load_hearing(load_artefact(ears), model, aids)
    questions = Exam(config, tokenizer, domain)
    questions.add_clips(read_manifest(manifest), root / "audio", most=exam)
    questions.add_recording(*TACO)
    recordings = Recordings(root / "audio")
    if workers:
        recordings.hold(clips_to_train_on(manifest))
    dice = np.random.default_rng(seed)
    feed = QuestionFeed(
        config,
        tokenizer,
        domain,
        lambda: thinned(clips_to_train_on(manifest), outside, dice),
        recordings,
        batch=batch,
        group=group,
        seed=seed,
    )

    def pause() -> None:
        save_artefact(artefact, model.artefact())
        save_artefact(ears, hearing_artefact(model, aids))
        console.print("exact answers on held-out recordings:", *questions.sit(model).lines(), sep="\n  ")

    loader = DataLoader(feed, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    train_reasoner(model, aids, loader, Budget(minutes=minutes, peak_rate=rate), pause=pause)
    pause()


if __name__ == "__main__":
    typer.run(main)
