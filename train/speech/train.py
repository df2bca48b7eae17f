"""Stage `speech`: train the speech model to say every reply in the voice of its prompt.

Run `python -m train.speech.train`. The stage reads what the stage `codes` wrote and the manifests of the speech. It
writes `speech.safetensors` (`backbone.*`, `decoder.*`) every five minutes and at the end. About an hour on one core; on
a GPU: `--device cuda --batch 96 --minutes 8`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from torch import Tensor

from train.corpus.vocabulary import nano_tokenizer, text_embedding
from train.optim.training_loop import ROOT, Budget, Report, load_artefact, save_artefact, seed_everything
from train.pack.config import nano
from train.speech.batch import SpeechBatch
from train.speech.conversions import load_conversions, load_voices
from train.speech.examples import Corruption, SpeechCorpus
from train.speech.model import SpeechModel
from train.speech.recordings import load_recordings
from train.speech.speaker_task import SpeakerTask

PEAK_RATE = 9e-4
WEIGHT_DECAY = 0.05
LONGEST_GRADIENT = 1.0
DEPTH_SHARE = 0.5
"""Share of the frames on which each step trains the depth decoder, beside all EOS frames."""

SPEAKER_WEIGHT = 0.5
"""Weight of the auxiliary loss (`train.speech.speaker_task`)."""

SAVED_EVERY_S = 300.0


def new_optimizer(model: SpeechModel, task: SpeakerTask) -> torch.optim.AdamW:
    """AdamW with weight decay for matrices only: not for norms, and not for the audio table, whose rows rarely get
    gradients."""
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        (kept if parameter.dim() == 1 or "audio_embedding" in name else decayed).append(parameter)
    kept.extend(task.parameters())
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)


def train_step(
    model: SpeechModel, task: SpeakerTask, batch: SpeechBatch, optimizer: torch.optim.Optimizer
) -> Mapping[str, float]:
    """One step on `batch`. Returns the losses, and the shares of codes to which the teacher-forced model gives the
    highest probability."""
    device = batch.targets.device
    with torch.autocast(device.type, torch.bfloat16):
        hidden = model.hidden(batch)
        codebook0 = model.codebook0_logits(hidden)
        is_eos = (batch.targets[:, :-1] == model.config.codebook_eos).all(dim=1)
        chosen = (torch.rand(len(is_eos), device=device) < DEPTH_SHARE) | is_eos
        codes = batch.targets[chosen]
        depth = model.depth_logits(hidden[chosen], codes)
    losses = _cross_entropy(codebook0, batch.targets[:, 0]), _cross_entropy(depth, codes[:, 1:])
    unlike = task.loss(hidden, batch)
    (torch.stack(losses).sum() + SPEAKER_WEIGHT * unlike).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), LONGEST_GRADIENT)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {
        "loss_0": losses[0].item(),
        "loss_depth": losses[1].item(),
        "unlike": unlike.item(),
        "right_0": _share_right(codebook0, batch.targets[:, 0]),
        "right_depth": _share_right(depth, codes[:, 1:]),
    }


def _cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), codes.flatten())


def _share_right(logits: Tensor, codes: Tensor) -> float:
    return (logits.argmax(-1) == codes).float().mean().item()


def main(
    minutes: Annotated[float, typer.Option(help="Training time.")] = 60.0,
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    batch: Annotated[int, typer.Option(help="Speeches per step.")] = 12,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = PEAK_RATE,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    cloned: Annotated[float, typer.Option(help="Share of the speeches by the speakers to clone, 0 to 1.")] = 0.75,
    resume: Annotated[bool, typer.Option(help="Continue from the artefact's weights.")] = False,
) -> None:
    """Train the speech model on the codes of the reply voices and of the speakers to clone."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    config, artefact, console = nano(), root / "speech.safetensors", Console(width=120)
    tokenizer = nano_tokenizer()
    recordings = load_recordings(root, tokenizer)
    table = text_embedding()
    conversions = load_conversions(root, tokenizer, [*recordings.speakers])
    corpus = SpeechCorpus(
        config,
        table,
        recordings.replies,
        recordings.speakers,
        convert=conversions.codes,
        cloned=cloned,
        corruption=Corruption(),
        seed=seed,
    )
    model = SpeechModel(config, table)
    if resume:
        model.load_state_dict(load_artefact(artefact))
    task = SpeakerTask(config.backbone.width, {name: one.print for name, one in load_voices(root).items()})
    model.to(device)
    task.to(device)
    optimizer = new_optimizer(model, task)
    voices = {**recordings.replies, **recordings.speakers}
    console.print(f"{sum(map(len, voices.values()))} recordings of {len(voices)} voices to learn")
    budget = Budget(minutes=minutes, peak_rate=rate)
    batches, saved_at = corpus.batches(batch), time.monotonic()
    with Report("speech", budget) as report:
        for _ in budget.steps():
            for group in optimizer.param_groups:
                group["lr"] = budget.rate
            report.add(**train_step(model, task, next(batches).to(device), optimizer))
            if time.monotonic() - saved_at > SAVED_EVERY_S:
                save_artefact(artefact, model.state_dict())
                saved_at = time.monotonic()
    save_artefact(artefact, model.state_dict())
    console.print(f"{budget.step} steps; {artefact}")


if __name__ == "__main__":
    typer.run(main)
