"""Stage `encoder`: train the codec's encoder to give the quantizer's components.

Run `python -m train.codec.encoder --minutes 20`. The target of each frame is what the quantizer computes from the
frame's mel patch. After training, Mimi's own `encode` gives the codes of `train.codec.codes`. Training uses pieces of
clips that begin at any sample, made louder and softer, some of them in another room and by another microphone, as the
prompts of users come. The stage starts from the codec of `train.codec.vocoder` and changes only its encoder.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn
from transformers import MimiModel

from services.common.wire.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ
from train.audio.augment import ENROLMENT, Augmenter
from train.codec.artefact import open_codec, save_codec
from train.codec.codes import load_coded_clips, load_quantizer
from train.codec.crops import CropSource
from train.codec.mel import FramePatches
from train.codec.mimi import encode_latents, encoder_half, input_projections
from train.codec.patch_quantizer import PatchQuantizer
from train.optim.stability import GuardedOptimizer, WeightAverage
from train.optim.training_loop import ROOT, Budget, Report, seed_everything

_PEAK_RATE = 6e-4
_PROJECTION_RATE_SCALE = 6.0
"""The projections' outputs are as large as the components, ten times as large as the latents."""
_LARGEST_GAIN_DB = 6.0
_AFAR_SHARE = 0.3
"""Share of the pieces that are changed by a room and a microphone."""
_AFAR = replace(ENROLMENT, pause_s=(0.0, 0.0))
_SAVED_EVERY_S = 300.0
_CALIBRATION_BATCHES = 25
_RIDGE = 1e-2


class EncoderTargets:
    """Draws random pieces of speech with the components of their frames, the targets."""

    def __init__(
        self,
        crops: CropSource,
        quantizer: PatchQuantizer,
        *,
        seed: int,
        device: str | torch.device,
        afar: float = _AFAR_SHARE,
    ) -> None:
        self._crops, self._quantizer, self._device = crops, quantizer, device
        self._patches = FramePatches().to(device)
        self._random = random.Random(seed)
        self._afar = afar
        self._other = np.zeros(FRAME_SAMPLES, np.float32)  # the piece before this one, for babble
        dice = np.random.default_rng(seed)
        self._augment = Augmenter(dice, lambda: self._other, _AFAR, sample_rate_hz=SAMPLE_RATE_HZ)

    def draw(self, batch: int) -> tuple[Tensor, Tensor, int]:
        """Waveforms [B, S], components [B, T, D], and the number of first frames whose targets need earlier sound."""
        crop = self._crops.draw(batch, self._device)
        shift = self._random.randrange(FRAME_SAMPLES) if crop.context else 0
        gains = [10 ** (self._random.uniform(-_LARGEST_GAIN_DB, _LARGEST_GAIN_DB) / 20) for _ in range(batch)]
        pcm = crop.pcm[:, shift : shift + crop.pcm.shape[1] - FRAME_SAMPLES]
        pcm = torch.stack([self._changed(piece) if self._random.random() < self._afar else piece for piece in pcm])
        pcm = (pcm * torch.tensor(gains, device=pcm.device)[:, None]).clamp(-1.0, 1.0)
        return pcm, self._quantizer.components(self._patches(pcm)), crop.context

    def _changed(self, piece: Tensor) -> Tensor:
        """A piece [S] in another room and by another microphone; silence stays as it is."""
        sound = piece.cpu().numpy()
        if not sound.any():
            return piece
        changed = self._augment(sound)[: len(sound)]
        self._other = sound
        return torch.from_numpy(changed).to(piece.device)


def latents(model: MimiModel, pcm: Tensor) -> Tensor:
    """Waveform [B, T * 1920] -> inputs of the projections [B, T, width], computed in bf16, returned in float32."""
    with torch.autocast(pcm.device.type, torch.bfloat16):
        return encode_latents(model, pcm).float()


@torch.no_grad()
def calibrate(model: MimiModel, targets: EncoderTargets, quantizer: PatchQuantizer, batch: int) -> None:
    """Initialise the projections by ridge regression on an untrained encoder, after centring the outputs of its
    convolutions."""
    pcm, _, _ = targets.draw(4 * batch)
    waveform_half = encoder_half(model).encoder_seanet
    waveform_half.layers[-1].get_parameter("conv.bias").sub_(waveform_half(pcm[:, None]).mean((0, 2)))
    rows, wanted = [], []
    for _ in range(_CALIBRATION_BATCHES):
        pcm, components, context = targets.draw(batch)
        rows.append(latents(model, pcm)[:, context:].flatten(0, 1))
        wanted.append(components[:, context:].flatten(0, 1))
    x, y = torch.cat(rows), torch.cat(wanted)
    power = x.T @ x
    ridge = _RIDGE * power.diagonal().mean() * torch.eye(len(power), device=x.device)
    regression = torch.linalg.solve(power + ridge, x.T @ y)  # [width, D]
    for weight, scale in zip(
        input_projections(model), (quantizer.semantic_scale, quantizer.acoustic_scale), strict=True
    ):
        weight.copy_((regression * scale).T[:, :, None])


def train_encoder(
    model: MimiModel,
    targets: EncoderTargets,
    quantizer: PatchQuantizer,
    budget: Budget,
    *,
    batch: int,
    save: Callable[[], None],
) -> list[float]:
    """Train the encoder in place; at the end it holds the average of its last weights.

    `save` is called every five minutes, while the model holds the averaged weights. Returns each step's unexplained
    share of the components' variance, in the acoustic branch.
    """
    ends = input_projections(model)
    trained = [*encoder_half(model).parameters(), *ends]
    optimizer = torch.optim.AdamW(
        [
            {"params": list(encoder_half(model).parameters())},
            {"params": list(ends), "scale": _PROJECTION_RATE_SCALE, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.99),
        weight_decay=0.01,
    )
    guarded, average = GuardedOptimizer(optimizer), WeightAverage(trained)
    unexplained: list[float] = []
    saved_at = time.monotonic()
    with Report("encoder", budget) as report:
        for _ in budget.steps():
            pcm, components, context = targets.draw(batch)
            hidden = latents(model, pcm)[:, context:]
            semantic, acoustic = _errors(hidden, components[:, context:], ends, quantizer)
            guarded.step(semantic + acoustic, budget.rate)
            average.update()
            unexplained.append(acoustic.item())
            report.add(semantic=semantic.item(), acoustic=acoustic.item(), skipped=guarded.skipped)
            if time.monotonic() - saved_at > _SAVED_EVERY_S:
                with average.applied():
                    save()
                saved_at = time.monotonic()
    average.adopt()
    return unexplained


def _errors(hidden: Tensor, components: Tensor, ends: Iterable[Tensor], quantizer: PatchQuantizer) -> Iterator[Tensor]:
    """The squared error of each branch, as a share of the batch's variance."""
    for end, scale in zip(ends, (quantizer.semantic_scale, quantizer.acoustic_scale), strict=True):
        wanted = components * scale
        error = hidden @ end[:, :, 0].T - wanted
        yield error.square().sum(-1).mean() / wanted.flatten(0, 1).var(0).sum()


def main(
    minutes: Annotated[float, typer.Option(help="Training time.")] = 20.0,
    batch: Annotated[int, typer.Option(help="Pieces per step.")] = 8,
    frames: Annotated[int, typer.Option(help="Frames per piece, 80 ms each.")] = 12,
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = _PEAK_RATE,
    seed: Annotated[int, typer.Option(help="Seed of crops and gains.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    resume: Annotated[bool, typer.Option(help="Continue from the artefact's encoder.")] = False,
) -> None:
    """Train Mimi's encoder to give the codes of `train.codec.codes`, on all who speak."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    quantizer = load_quantizer(root, device)
    crops = CropSource(load_coded_clips(root), frames=frames + 1, seed=seed)
    targets = EncoderTargets(crops, quantizer, seed=seed, device=device)
    model = open_codec(root, load_quantizer(root), resume=True)
    nn.Module.to(model, device)
    if not resume:
        calibrate(model, targets, quantizer, batch)
    budget = Budget(minutes=minutes, peak_rate=rate)
    train_encoder(model, targets, quantizer, budget, batch=batch, save=lambda: save_codec(root, model))
    save_codec(root, model)


if __name__ == "__main__":
    typer.run(main)
