"""Random pieces of speech with their codes: the training data of vocoder and encoder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.common.wire.audio import FRAME_SAMPLES

Pcm16 = npt.NDArray[np.int16]


@dataclass(frozen=True)
class CodedClip:
    """A clip in whole frames: samples [T * 1920] and codes [T, K] int64. `weight` is how often a frame is drawn."""

    pcm: Pcm16
    codes: Tensor
    weight: float = 1.0

    @property
    def frames(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Crops:
    """B pieces of equal length. Their first `context` frames are only context: no loss is computed there."""

    pcm: Tensor
    """[B, T * 1920] float32, full scale 1."""
    codes: Tensor
    """[B, T, K] int64."""
    context: int

    @property
    def context_samples(self) -> int:
        return self.context * FRAME_SAMPLES


class CropSource:
    """Draws crops of clips, of longer and heavier clips more often. A tenth of the draws are the beginnings of clips,
    because the codec also starts each stream without context."""

    CONTEXT = 2
    _BEGINNINGS = 0.1

    def __init__(self, clips: Sequence[CodedClip], *, frames: int, seed: int) -> None:
        self._clips = [clip for clip in clips if clip.frames >= frames]
        if not self._clips or frames <= self.CONTEXT:
            raise ValueError(f"crops: expected clips of at least {frames} frames and more than {self.CONTEXT}")
        self._weights = [clip.weight * (clip.frames - frames + 1) for clip in self._clips]
        self._frames = frames
        self._random = random.Random(seed)

    def draw(self, batch: int, device: str | torch.device = "cpu") -> Crops:
        """A batch of crops. Either all of them are beginnings of clips without context, or all have context."""
        beginnings = self._random.random() < self._BEGINNINGS
        pcm, codes = [], []
        for clip in self._random.choices(self._clips, self._weights, k=batch):
            first = 0 if beginnings else self._random.randrange(clip.frames - self._frames + 1)
            last = first + self._frames
            pcm.append(torch.from_numpy(clip.pcm[first * FRAME_SAMPLES : last * FRAME_SAMPLES]))
            codes.append(clip.codes[first:last])
        context = 0 if beginnings else self.CONTEXT
        return Crops(torch.stack(pcm).to(device).float() / 32768.0, torch.stack(codes).to(device), context)


def with_share(clips: Sequence[CodedClip], others: Sequence[CodedClip], share: float) -> list[CodedClip]:
    """All clips, weighted so that `clips` have this share of the frames that are drawn, and `others` the rest."""
    if not clips or not others:
        return [*clips, *others]
    frames, rest = (sum(clip.frames for clip in some) for some in (clips, others))
    weight = share / (1.0 - share) * rest / frames
    return [*(replace(clip, weight=weight) for clip in clips), *others]


def whole_frames(pcm: Pcm16, *, lead: int = 0) -> Pcm16:
    """The clip [S] after `lead` samples of silence, padded with silence to whole frames."""
    return np.pad(pcm, (lead, -(lead + len(pcm)) % FRAME_SAMPLES))
