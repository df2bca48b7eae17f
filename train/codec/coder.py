"""What training needs of one recording: its codes in several variants, and what the codes do not tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from chroma_voice.eval.speakers.likeness import Encoder, direction
from chroma_voice.eval.speakers.voice_print import SAMPLE_RATE_HZ as HEARD_RATE_HZ
from services.common.wire.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ
from train.audio.augment import ENROLMENT, Augmenter
from train.audio.noises import Samples
from train.audio.sound import Sound, shifted
from train.codec.crops import Pcm16, whole_frames
from train.codec.mel import LOG_FLOOR, FramePatches
from train.codec.patch_quantizer import PatchQuantizer
from train.corpus.copies import Spoken

LEADS = (0, 960)
"""Numbers of samples of silence before a clip. Each gives one set of codes."""

_BLUR = 4.0
"""Mean squared error of a blurred frame's components, beside the quantizer's own of about 5."""
_PRINTED = 2
"""Sentences of one speaker whose embeddings are averaged."""
_SILENT, _SPOKEN = 0.15, 0.55
"""Mean of a patch above the floor, in log10: up to the first a frame is silent, from the second on it is all speech."""


def code_key(spoken: Spoken, lead: int) -> str:
    """The key of the codes in `codes.safetensors`."""
    return f"{spoken.key}@{lead}" if lead else spoken.key


def read_pcm(audio: Path, spoken: Spoken) -> Pcm16:
    """The samples [S] of a clip or of its copy. Raises `ValueError` unless the clip is mono at 24 kHz."""
    pcm, rate = soundfile.read(audio / spoken.clip.path, dtype="int16")
    if rate != SAMPLE_RATE_HZ or pcm.ndim != 1:
        raise ValueError(f"{spoken.clip.path}: expected mono at {SAMPLE_RATE_HZ} Hz, got {pcm.ndim} axes at {rate} Hz")
    if spoken.factor != 1.0:
        played = shifted(Sound(pcm.astype(np.float32), rate), spoken.factor).samples
        pcm = played.round().clip(-32_768, 32_767)
    return pcm.astype(np.int16, copy=False)


def patches_at(measure: FramePatches, pcm: Pcm16, lead: int = 0) -> Tensor:
    """The mel patches [T, 320] of samples [S] after a lead."""
    wave = torch.from_numpy(whole_frames(pcm, lead=lead)).float() / 32768.0
    return measure(wave[None])[0]


def loudness(patches: Tensor) -> Tensor:
    """How much of each patch of [T, 320] is speech: [T], 0 to 1."""
    level = patches.mean(1) - float(np.log10(LOG_FLOOR))
    return ((level - _SILENT) / (_SPOKEN - _SILENT)).clamp(0.0, 1.0)


def in_original_time(patches: Tensor, factor: float, frames: int) -> Tensor:
    """Patches [T, 320] of a copy at `factor`, stretched to the time of its original: [frames, 320].

    Each column of 20 ms is the nearest one of the copy.
    """
    bands, columns = FramePatches.BANDS, FramePatches.COLUMNS
    row = patches.unflatten(1, (bands, columns)).transpose(1, 2).flatten(0, 1)  # [4 T, 80]
    taken = (torch.arange(columns * frames) / factor).round().long().clamp(max=len(row) - 1)
    return row[taken].unflatten(0, (frames, columns)).transpose(1, 2).flatten(1)


class Coder:
    """Gives the codes of recordings in all variants. `others` are recordings for babble noise."""

    def __init__(
        self, quantizer: PatchQuantizer, encoder: Encoder, others: Sequence[Samples], dice: np.random.Generator
    ) -> None:
        self._quantizer, self._encoder = quantizer, encoder
        self._measure = FramePatches()
        self._augment = Augmenter(
            dice, lambda: others[int(dice.integers(len(others)))], ENROLMENT, sample_rate_hz=SAMPLE_RATE_HZ
        )
        self._vectors: dict[str, list[np.ndarray]] = defaultdict(list)
        self._sums: dict[str, Tensor] = {}
        self._loud: dict[str, float] = defaultdict(float)

    def variants(self, spoken: Spoken, pcm: Pcm16) -> dict[str, Tensor]:
        """The codes int16 [T, K] by key. The recording counts among those of its voice (`voices`)."""
        patches = patches_at(self._measure, pcm)
        components = self._quantizer.components(patches)
        self._count(spoken.voice, pcm, components, loudness(patches))
        changed = (self._augment(pcm.astype(np.float32) / 32768.0) * 32767.0).astype(np.int16)
        found = {
            spoken.key: components,
            f"{spoken.key}@afar": self._quantizer.components(patches_at(self._measure, changed)),
            f"{spoken.key}@blurred": components + self._blur(components),
        }
        for lead in LEADS[1:]:
            found[code_key(spoken, lead)] = self._quantizer.components(patches_at(self._measure, pcm, lead))
        return {key: self._quantizer.encode(rows).to(torch.int16) for key, rows in found.items()}

    def performance(self, spoken: Spoken, pcm: Pcm16, original: Pcm16) -> dict[str, Tensor]:
        """How a reply voice or its copy says a sentence, in the time of the original: float16 components [T, D] under
        the key and loudness [T] under `KEY@loud`."""
        frames = len(whole_frames(original)) // FRAME_SAMPLES
        patches = in_original_time(patches_at(self._measure, pcm), spoken.factor, frames)
        components = self._quantizer.components(patches)
        return {spoken.key: components.half(), f"{spoken.key}@loud": loudness(patches).half()}

    def voices(self) -> dict[str, Tensor]:
        """Of every voice so far the speaker embedding [256] under its name, and under `NAME@mean` the mean components
        [D] of its speech."""
        prints = {voice: torch.from_numpy(direction(vectors)) for voice, vectors in self._vectors.items()}
        return prints | {f"{voice}@mean": total / self._loud[voice] for voice, total in self._sums.items()}

    def _count(self, voice: str, pcm: Pcm16, components: Tensor, loud: Tensor) -> None:
        if len(self._vectors[voice]) < _PRINTED:
            self._vectors[voice].append(
                self._encoder(soxr.resample(pcm.astype(np.float32) / 32768.0, SAMPLE_RATE_HZ, HEARD_RATE_HZ))
            )
        self._sums[voice] = self._sums.get(voice, 0.0) + loud @ components
        self._loud[voice] += loud.sum().item()

    def _blur(self, components: Tensor) -> Tensor:
        spread = components.std(0)
        scale = torch.sqrt(_BLUR * spread / spread.sum()) / self._quantizer.acoustic_scale
        return torch.randn_like(components) * scale
