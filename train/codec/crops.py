"""Random pieces of speech with their codes: what vocoder and encoder are trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.common.wire.audio import FRAME_SAMPLES

Pcm16 = npt.NDArray[np.int16]


@dataclass(frozen=True)
class CodedClip:
    """A clip in whole frames: samples [T * 1920] and codes [T, K] int64."""

    pcm: Pcm16
    codes: Tensor

    @property
    def frames(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Crops:
    """B pieces of equal length. `context` first frames stand for what was said before, and no loss is taken there."""

    pcm: Tensor
    """[B, T * 1920] float32, full scale 1."""
    codes: Tensor
    """[B, T, K] int64."""
    context: int

    @property
    def context_samples(self) -> int:
        return self.context * FRAME_SAMPLES


class CropSource:
    """Draws crops from clips, longer clips more often. One draw in ten is of beginnings: streams start cold."""

    CONTEXT = 2
    _BEGINNINGS = 0.1

    def __init__(self, clips: Sequence[CodedClip], *, frames: int, seed: int) -> None:
        self._clips = [clip for clip in clips if clip.frames >= frames]
        if not self._clips or frames <= self.CONTEXT:
            raise ValueError(f"crops: expected clips of at least {frames} frames and more than {self.CONTEXT}")
        self._weights = [clip.frames - frames + 1 for clip in self._clips]
        self._frames = frames
        self._random = random.Random(seed)

    def draw(self, batch: int, device: str | torch.device = "cpu") -> Crops:
        """A batch of crops, all of them beginnings or none."""
        beginnings = self._random.random() < self._BEGINNINGS
        pcm, codes = [], []
        for clip in self._random.choices(self._clips, self._weights, k=batch):
            first = 0 if beginnings else self._random.randrange(clip.frames - self._frames + 1)
            last = first + self._frames
            pcm.append(torch.from_numpy(clip.pcm[first * FRAME_SAMPLES : last * FRAME_SAMPLES]))
            codes.append(clip.codes[first:last])
        context = 0 if beginnings else self.CONTEXT
        return Crops(torch.stack(pcm).to(device).float() / 32768.0, torch.stack(codes).to(device), context)


def whole_frames(pcm: Pcm16, *, lead: int = 0) -> Pcm16:
    """The clip [S] behind `lead` samples of silence, filled up with silence to whole frames."""
    return np.pad(pcm, (lead, -(lead + len(pcm)) % FRAME_SAMPLES))
