"""Recordings for training: clips read from disk, and changed at random."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from services.common.wire.audio import HEARING_RATE_HZ
from train.audio.augment import AugmentationSettings, Augmenter, mask
from train.audio.noises import Samples, no_speech
from train.corpus.clip_index import Clip, subject_of
from train.corpus.domain import Domain
from train.hearing.auxiliary_tasks import subject_numbers
from train.hearing.clip_batch import LabelledClip
from train.hearing.clip_features import Recording


class ClipReader:
    """Reads the clips of an audio folder and keeps them in memory as int16, 32 kB per second of sound."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pcm: dict[str, np.ndarray] = {}

    def preload(self, clips: Sequence[Clip]) -> None:
        """Read all of these clips at once. Worker processes that fork later share the memory."""
        with ThreadPoolExecutor() as readers:
            list(readers.map(self.read, clips))

    def read(self, clip: Clip) -> Samples:
        """float32 [S] at 16 kHz. Raises `ValueError` for another rate."""
        if clip.path not in self._pcm:
            samples, rate_hz = sf.read(self._folder / clip.path, dtype="int16")
            if rate_hz != HEARING_RATE_HZ:
                raise ValueError(f"{clip.path}: expected {HEARING_RATE_HZ} Hz, found {rate_hz}")
            self._pcm[clip.path] = samples
        return self._pcm[clip.path].astype(np.float32) / 32_768


class RecordingSource:
    """Makes recordings of clips, each with one of the `augmentations`. Babble noise consists of clips of `others`."""

    def __init__(
        self,
        domain: Domain,
        reader: ClipReader,
        others: Sequence[Clip],
        dice: np.random.Generator,
        augmentations: Sequence[AugmentationSettings],
    ) -> None:
        self._reader = reader
        self._subjects = subject_numbers(domain)
        self._dice = dice
        self._augmenters = [
            Augmenter(dice, lambda: reader.read(others[int(dice.integers(len(others)))]), settings)
            for settings in augmentations
        ]

    def record(self, clip: Clip) -> Recording:
        """The clip after a random augmentation."""
        augment = self._augmenters[int(self._dice.integers(len(self._augmenters)))]
        pcm = torch.from_numpy(augment(self._reader.read(clip)))
        return Recording(pcm, clip.text, self._subjects[subject_of(clip)])

    def without_speech(self) -> Recording:
        """A recording without speech."""
        return Recording(torch.from_numpy(no_speech(self._dice)), "", self._subjects["outside"])

    def mask(self, clip: LabelledClip) -> LabelledClip:
        """The clip with some of its features masked (`augment.mask`)."""
        return replace(clip, mel=mask(clip.mel, self._dice))
