"""Stage: the reasoner. `python -m train.reasoner --minutes 45` teaches hearing and answering, from nothing.

Spoken and typed questions, in conversations, are answered token by token. While it trains, the tower also spells what
it hears (CTC), which makes it hear words in voices it never heard. A GPU affords a larger batch:
`--device cuda --batch 256 --group 256 --workers 12 --minutes 9`. Leaves `reasoner.safetensors`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from train.config import nano
from train.conversation_batch import ConversationBatch
from train.corpus import read_manifest
from train.domain import load_domain
from train.loop import ROOT, Budget, Report, load_artefact, save_artefact, seed_everything
from train.question_feed import QuestionFeed
from train.reasoner_exam import Exam
from train.reasoner_model import ReasonerModel
from train.spelling import SpellingHead
from train.steps import SteadySteps, WeightAverage
from train.vocabulary import nano_tokenizer, text_embedding

TACO = Path("samples/question_make_taco.wav")
"""A recording of a person; never trained on."""

_PEAK_RATE = 2e-3
_SPELLING_WEIGHT = (1.0, 0.1)
"""At the beginning and at the end."""
_SAVED_EVERY_S = 300.0

console = Console(width=120, highlight=False)


def losses(model: ReasonerModel, spelling: SpellingHead, batch: ConversationBatch) -> tuple[Tensor, Tensor]:
    """The sum of the cross-entropies of a batch's reply tokens, and the CTC loss of its clips. bf16 inside."""
    with torch.autocast(batch.ids.device.type, torch.bfloat16):
        heard = model.heard(batch)
        logits = model.logits(model.hidden(batch, heard))
        replies = F.cross_entropy(logits, batch.targets, reduction="sum")
        if not len(batch.clip_rows):
            return replies, replies.new_zeros(())
        return replies, spelling(heard, batch.clip_rows, batch.letters, batch.letter_counts)


def _backward(
    model: ReasonerModel, spelling: SpellingHead, groups: Sequence[ConversationBatch], weight: float
) -> tuple[Tensor, float, float]:
    """Gradients of all groups but the last, whose loss is returned with the step's losses: a reply token, a letter."""
    tokens = sum(len(group.targets) for group in groups)
    loss: Tensor | None = None
    reply_loss = letters_loss = 0.0
    for group in groups:
        if loss is not None:
            loss.backward()
        replies, letters = losses(model, spelling, group)
        loss = replies / tokens + weight * letters / len(groups)
        reply_loss += replies.item() / tokens
        letters_loss += letters.item() / len(groups)
    assert loss is not None, "a step has a group"
    return loss, reply_loss, letters_loss


def train_reasoner(
    model: ReasonerModel,
    feed: Iterable[list[ConversationBatch]],
    budget: Budget,
    *,
    every_s: float = _SAVED_EVERY_S,
    pause: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train in place; the model ends as the average of its last weights. Returns each step's loss a reply token.

    `pause` is called every `every_s` seconds with the averaged weights in the model.
    """
    device = model.lm_head.weight.device
    spelling = SpellingHead(model.config.thinker.text.width).to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW([*trained, *spelling.parameters()], betas=(0.9, 0.98), weight_decay=0.05)
    steps, average = SteadySteps(optimizer), WeightAverage(trained, steps=100)
    first, last = _SPELLING_WEIGHT
    told: list[float] = []
    paused_at = time.monotonic()
    with Report("reasoner", budget) as report:
        for _, groups in zip(budget.steps(), feed, strict=False):
            weight = first + (last - first) * budget.spent
            loss, reply_loss, letters_loss = _backward(model, spelling, [group.to(device) for group in groups], weight)
            steps.step(loss, budget.rate)
            average.update()
            told.append(reply_loss)
            report.add(reply=reply_loss, letters=letters_loss, skipped=steps.skipped)
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
    group: Annotated[int, typer.Option(help="Conversations run at once; a step has several such groups.")] = 16,
    workers: Annotated[int, typer.Option(help="Processes that prepare batches; 0: the training process.")] = 0,
    exam: Annotated[int, typer.Option(help="Held-out recordings to ask every few minutes.")] = 300,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = _PEAK_RATE,
    resume: Annotated[bool, typer.Option(help="Go on from the weights of reasoner.safetensors.")] = False,
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
) -> None:
    """Train the reasoner on the questions of build/nano/audio and save it as reasoner.safetensors."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    config, tokenizer, domain, artefact = nano(), nano_tokenizer(), load_domain(), root / "reasoner.safetensors"
    model = ReasonerModel(config, text_embedding()).to(device)
    if resume:
        model.load_artefact(load_artefact(artefact))
    clips = read_manifest(root / "audio" / "questions.jsonl")
    heard = [clip for clip in clips if not clip.held_out]
    feed = QuestionFeed(config, tokenizer, domain, heard, root / "audio", batch=batch, group=group, seed=seed)
    questions = Exam(config, tokenizer, domain)
    questions.add_clips(clips, root / "audio", most=exam)
    questions.add_recording(TACO, "please tell me how to make a taco", "taco")
    console.print(
        f"{len(heard)} clips of {len({clip.voice for clip in heard})} voices, {len(clips) - len(heard)} held out"
    )

    def pause() -> None:
        save_artefact(artefact, model.artefact())
        console.print("exact answers on held-out recordings:", *questions.sit(model).lines(), sep="\n  ")

    loader = DataLoader(feed, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    train_reasoner(model, loader, Budget(minutes=minutes, peak_rate=rate), pause=pause)
    pause()


if __name__ == "__main__":
    typer.run(main)
