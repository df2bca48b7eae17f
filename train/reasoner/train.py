"""Stage `reasoner`: train the reasoner to answer, with the audio tower of train.hearing.train.

Run `python -m train.reasoner.train --minutes 45`. The model learns to answer spoken and typed questions in
conversations, token by token. The tower's auxiliary tasks (spelling, subjects) continue beside it. A GPU can use a
larger batch: `--device cuda --batch 256 --group 256 --workers 12 --minutes 7`. The stage writes `reasoner.safetensors`,
and it writes the heads that `--resume` needs into `hearing.safetensors`.
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
from train.hearing.recordings import ClipReader
from train.hearing.train import SUBJECT_WEIGHT, hearing_artefact, load_hearing
from train.optim.muon import MuonAndAdamW
from train.optim.stability import GuardedOptimizer, WeightAverage
from train.optim.training_loop import ROOT, Budget, Report, load_artefact, save_artefact, seed_everything
from train.pack.config import nano
from train.reasoner.conversation_batch import ConversationBatch
from train.reasoner.conversation_feed import ConversationFeed
from train.reasoner.model import ReasonerModel
from train.reasoner.validation import TACO, ValidationSet

_PEAK_RATE = 2e-3
_REPLY_WEIGHT = 4.0
_AUXILIARY_WEIGHT = (1.0, 0.1)
"""Weight of the auxiliary losses, at the beginning and at the end."""
_SAVED_EVERY_S = 300.0

console = Console(width=120, highlight=False)


def losses(model: ReasonerModel, heads: AuxiliaryHeads, batch: ConversationBatch) -> tuple[Tensor, Tensor]:
    """The sum of the cross-entropies of a batch's reply tokens, and the auxiliary loss. Computed in bf16."""
    with torch.autocast(batch.ids.device.type, torch.bfloat16):
        audio = model.audio_embeddings(batch.clips)
        logits = model.logits(model.hidden(batch, audio))
        replies = F.cross_entropy(logits, batch.targets, reduction="sum")
        letters, subject = heads(audio, batch.clips)
        return replies, letters + SUBJECT_WEIGHT * subject


def _backward(
    model: ReasonerModel, heads: AuxiliaryHeads, groups: Sequence[ConversationBatch], weight: float
) -> tuple[Tensor, float, float]:
    """Compute the gradients of all groups except the last one.

    Returns the loss of the last group, and the step's means of the loss per reply token and of the auxiliary loss.
    """
    tokens = sum(len(group.targets) for group in groups)
    loss: Tensor | None = None
    reply_loss = auxiliary_loss = 0.0
    for group in groups:
        if loss is not None:
            loss.backward()
        replies, auxiliary = losses(model, heads, group)
        loss = _REPLY_WEIGHT * replies / tokens + weight * auxiliary / len(groups)
        reply_loss += replies.item() / tokens
        auxiliary_loss += auxiliary.item() / len(groups)
    assert loss is not None, "a step has a group"
    return loss, reply_loss, auxiliary_loss


def train_reasoner(
    model: ReasonerModel,
    heads: AuxiliaryHeads,
    feed: Iterable[list[ConversationBatch]],
    budget: Budget,
    *,
    checkpoint_every_s: float = _SAVED_EVERY_S,
    checkpoint: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train the model and the heads in place; at the end the model holds the average of its last weights.

    `checkpoint` is called every `checkpoint_every_s` seconds, while the model holds the averaged weights. Returns the
    loss per reply token of each step.
    """
    device = model.lm_head.weight.device
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = GuardedOptimizer(MuonAndAdamW([model, heads]))
    average = WeightAverage(trained, steps=100)
    first, last = _AUXILIARY_WEIGHT
    reply_losses: list[float] = []
    saved_at = time.monotonic()
    with Report("reasoner", budget) as report:
        for _, groups in zip(budget.steps(), feed, strict=False):
            weight = first + (last - first) * budget.spent
            loss, reply_loss, auxiliary_loss = _backward(model, heads, [group.to(device) for group in groups], weight)
            optimizer.step(loss, budget.rate)
            average.update()
            reply_losses.append(reply_loss)
            report.add(reply=reply_loss, hearing=auxiliary_loss, skipped=optimizer.skipped)
            if time.monotonic() - saved_at > checkpoint_every_s:
                with average.applied():
                    checkpoint()
                saved_at = time.monotonic()
    average.adopt()
    return reply_losses


def main(
    minutes: Annotated[float, typer.Option(help="Time to train.")] = 45.0,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    batch: Annotated[int, typer.Option(help="Conversations per step.")] = 48,
    group: Annotated[int, typer.Option(help="Conversations in one forward pass; a step has several such groups.")] = 12,
    workers: Annotated[int, typer.Option(help="Processes that prepare batches; 0: the training process.")] = 0,
    exam: Annotated[int, typer.Option(help="Held-out recordings to validate with every few minutes.")] = 300,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = _PEAK_RATE,
    outside: Annotated[float, typer.Option(help="Share of the outside clips in each pass.")] = 1.0,
    resume: Annotated[bool, typer.Option(help="Continue from the weights of reasoner.safetensors.")] = False,
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
) -> None:
    """Train the reasoner on the questions of build/nano/audio and save it as reasoner.safetensors."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    config, tokenizer, domain = nano(), nano_tokenizer(), load_domain()
    artefact, hearing = root / "reasoner.safetensors", root / "hearing.safetensors"
    manifest = root / "audio" / "questions.jsonl"
    model = ReasonerModel(config, text_embedding()).to(device)
    heads = AuxiliaryHeads(config.thinker.text.width, len(subject_numbers(domain))).to(device)
    if resume:
        model.load_artefact(load_artefact(artefact))
    load_hearing(load_artefact(hearing), model, heads)
    validation = ValidationSet(config, tokenizer, domain)
    validation.add_clips(read_manifest(manifest), root / "audio", most=exam)
    validation.add_recording(*TACO)
    reader = ClipReader(root / "audio")
    if workers:
        reader.preload(clips_to_train_on(manifest))
    dice = np.random.default_rng(seed)
    feed = ConversationFeed(
        config,
        tokenizer,
        domain,
        lambda: thinned(clips_to_train_on(manifest), outside, dice),
        reader,
        batch=batch,
        group=group,
        seed=seed,
    )

    def checkpoint() -> None:
        save_artefact(artefact, model.artefact())
        save_artefact(hearing, hearing_artefact(model, heads))
        console.print("exact answers on held-out recordings:", *validation.check_replies(model).lines(), sep="\n  ")

    loader = DataLoader(feed, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    train_reasoner(model, heads, loader, Budget(minutes=minutes, peak_rate=rate), checkpoint=checkpoint)
    checkpoint()


if __name__ == "__main__":
    typer.run(main)
