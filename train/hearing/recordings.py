"""The clips of the corpus as recordings: read from disk, and as a microphone somewhere else might take them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from services.common.wire.audio import HEARING_RATE_HZ
from train.audio.augment import Augmenter, Journey, mask
from train.audio.noises import Samples, no_speech
from train.corpus.clip_index import Clip
from train.corpus.domain import Domain
from train.hearing.auxiliary_tasks import subject_numbers
from train.hearing.clip_batch import HeardClip
from train.reasoner.conversations import subject
from train.reasoner.layout import Recording


class Recordings:
    """The clips of an audio folder, each read once and kept as int16: 32 kB a second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, np.ndarray] = {}

    def hold(self, clips: Sequence[Clip]) -> None:
        """Read all of them now: worker processes that are forked later share the memory."""
        with ThreadPoolExecutor() as readers:
            list(readers.map(self.read, clips))

    def read(self, clip: Clip) -> Samples:
        """float32 [S] at 16 kHz. Raises `ValueError` for another rate."""
        if clip.path not in self._held:
            samples, rate_hz = sf.read(self._folder / clip.path, dtype="int16")
            if rate_hz != HEARING_RATE_HZ:
                raise ValueError(f"{clip.path}: expected {HEARING_RATE_HZ} Hz, found {rate_hz}")
            self._held[clip.path] = samples
        return self._held[clip.path].astype(np.float32) / 32_768


class Microphone:
    """Takes each clip anew, on one of the `journeys`. `others` are who may chatter behind it."""

    def __init__(
        self,
        domain: Domain,
        recordings: Recordings,
        others: Sequence[Clip],
        dice: np.random.Generator,
        journeys: Sequence[Journey],
    ) -> None:
        self._recordings = recordings
        self._subjects = subject_numbers(domain)
        self._dice = dice
        self._ways = [
            Augmenter(dice, lambda: recordings.read(others[int(dice.integers(len(others)))]), journey)
            for journey in journeys
        ]

    def record(self, clip: Clip) -> Recording:
        """Someone says what the clip says."""
        way = self._ways[int(self._dice.integers(len(self._ways)))]
        pcm = torch.from_numpy(way(self._recordings.read(clip)))
        return Recording(pcm, clip.text, self._subjects[subject(clip)])

    def nobody(self) -> Recording:
        """Nobody speaks."""
        return Recording(torch.from_numpy(no_speech(self._dice)), "", self._subjects["outside"])

    def mask(self, clip: HeardClip) -> HeardClip:
        """The clip with some of its features hidden."""
        return replace(clip, mel=mask(clip.mel, self._dice))
