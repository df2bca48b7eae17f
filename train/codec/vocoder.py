"""Stage `vocoder`: train the codec's decoder to make sound from the codes.

Run `python -m train.codec.vocoder --minutes 55`. The stage trains only the decoder, on the codes of
`train.codec.codes`; no encoder is in the loop. The decoder's sound is later than the codes by `DELAY_SAMPLES`, so that
the decoder knows the mel columns on both sides of a sample before it makes the sample. A GPU can use a larger batch:
`--device cuda --batch 64 --minutes 8`. The stage writes `codec.safetensors` with an unchanged encoder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from transformers import MimiModel

from train.codec.artefact import open_codec, save_codec
from train.codec.auxiliary_heads import MelHeads
from train.codec.codes import load_coded_clips, load_quantizer
from train.codec.crops import CropSource
from train.codec.mel import MelDistance
from train.codec.mimi import decode_codes, decoder_half, output_projections
from train.optim.stability import GuardedOptimizer, WeightAverage
from train.optim.training_loop import ROOT, Budget, Report, seed_everything

DELAY_SAMPLES = 512
"""21 ms: the last mel column of a frame is centred 512 samples before the frame's end."""

_PEAK_RATE = 8e-4
_MEL_HEADS_WEIGHT = 0.3
_SAVED_EVERY_S = 300.0


def delayed(pcm: Tensor) -> Tensor:
    """[B, S] -> [B, S], later by `DELAY_SAMPLES`."""
    return F.pad(pcm, (DELAY_SAMPLES, 0))[:, : pcm.shape[1]]


def decode_waveform(model: MimiModel, codes: Tensor) -> Tensor:
    """Codes [B, T, K] -> waveform [B, T * 1920], with gradients, computed in bf16, returned in float32."""
    with torch.autocast(codes.device.type, torch.bfloat16):
        return decode_codes(model, codes).float()


def train_vocoder(
    model: MimiModel, crops: CropSource, budget: Budget, *, batch: int, save: Callable[[], None]
) -> list[float]:
    """Train the decoder in place; at the end it holds the average of its last weights.

    `save` is called every five minutes, while the model holds the averaged weights. Returns each step's mel distance.
    """
    device = next(model.parameters()).device
    mel_heads, distance = MelHeads(model).to(device), MelDistance().to(device)
    trained = [*decoder_half(model).parameters(), *output_projections(model)]
    optimizer = torch.optim.AdamW([*trained, *mel_heads.parameters()], betas=(0.8, 0.99), weight_decay=0.01)
    guarded, average = GuardedOptimizer(optimizer), WeightAverage(trained)
    distances: list[float] = []
    saved_at = time.monotonic()
    with Report("vocoder", budget) as report:
        for _ in budget.steps():
            crop = crops.draw(batch, device)
            wanted, made = delayed(crop.pcm), decode_waveform(model, crop.codes)
            mel = distance(made[:, crop.context_samples :], wanted[:, crop.context_samples :])
            early = mel_heads(wanted, crop.context)
            guarded.step(mel + _MEL_HEADS_WEIGHT * early, budget.rate)
            average.update()
            distances.append(mel.item())
            report.add(mel=distances[-1], early=early.item(), skipped=guarded.skipped)
            if time.monotonic() - saved_at > _SAVED_EVERY_S:
                with average.applied():
                    save()
                saved_at = time.monotonic()
    average.adopt()
    return distances


def main(
    minutes: Annotated[float, typer.Option(help="Training time.")] = 55.0,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 8,
    frames: Annotated[int, typer.Option(help="Frames per crop, 80 ms each.")] = 12,
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = _PEAK_RATE,
    seed: Annotated[int, typer.Option(help="Seed of weights and crops.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    resume: Annotated[bool, typer.Option(help="Continue from the artefact's weights.")] = False,
) -> None:
    """Train Mimi's decoder on the codes of the reply voices and of the speakers to clone."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    crops = CropSource(load_coded_clips(root), frames=frames, seed=seed)
    model = open_codec(root, load_quantizer(root), resume=resume)
    nn.Module.to(model, device)
    budget = Budget(minutes=minutes, peak_rate=rate)
    train_vocoder(model, crops, budget, batch=batch, save=lambda: save_codec(root, model))
    save_codec(root, model)


if __name__ == "__main__":
    typer.run(main)
