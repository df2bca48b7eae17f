"""Endless batches of single recordings, for the training of the tower alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from services.reasoner.model.mel import MelFilters
from services.runtime.checkpoint.config import ChromaConfig
from train.audio.augment import AugmentationSettings
from train.corpus.clip_index import Clip, shuffled_passes
from train.corpus.domain import Domain
from train.hearing.clip_batch import ClipBatch, join_clips
from train.hearing.clip_features import labelled_clip
from train.hearing.recordings import ClipReader, RecordingSource

_NO_SPEECH = 0.03
"""Share of the recordings without speech."""


class ClipFeed(IterableDataset[ClipBatch]):
    """Endless batches of `batch` recordings. Each worker process draws its own; `clips` is as in `ConversationFeed`."""

    def __init__(
        self,
        config: ChromaConfig,
        domain: Domain,
        clips: Callable[[], Sequence[Clip]],
        reader: ClipReader,
        *,
        batch: int,
        seed: int,
        augmentations: Sequence[AugmentationSettings],
    ) -> None:
        self._config = config
        self._domain = domain
        self._clips = clips
        self._reader = reader
        self._batch = batch
        self._seed = seed
        self._augmentations = augmentations

    def __iter__(self) -> Iterator[ClipBatch]:
        worker = get_worker_info()
        dice = np.random.default_rng((self._seed, worker.id if worker else 0))
        source = RecordingSource(self._domain, self._reader, self._clips(), dice, self._augmentations)
        audio = self._config.thinker.audio
        mel = MelFilters(audio.mel_bins)
        clips = shuffled_passes(self._clips, dice)
        while True:
            recordings = [
                source.without_speech() if dice.random() < _NO_SPEECH else source.record(next(clips))
                for _ in range(self._batch)
            ]
            yield join_clips([source.mask(labelled_clip(one, mel)) for one in recordings], 2 * audio.n_window)
