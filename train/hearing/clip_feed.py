"""Batches of single recordings without end, for the tower alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from services.reasoner.model.mel import MelFilters
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.tokenizer import Tokenizer
from train.audio.augment import Journey
from train.corpus.clip_index import Clip
from train.corpus.domain import Domain
from train.hearing.clip_batch import ClipBatch, join_clips
from train.hearing.recordings import Microphone, Recordings
from train.reasoner.conversations import passes
from train.reasoner.layout import Layout

_NO_SPEECH = 0.03
"""Share of the recordings in which nobody speaks."""


class ClipFeed(IterableDataset[ClipBatch]):
    """Endless steps of `batch` recordings. Every worker that reads it draws its own; `clips` as in `QuestionFeed`."""

    def __init__(
        self,
        config: ChromaConfig,
        tokenizer: Tokenizer,
        domain: Domain,
        clips: Callable[[], Sequence[Clip]],
        recordings: Recordings,
        *,
        batch: int,
        seed: int,
        journeys: Sequence[Journey],
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._domain = domain
        self._clips = clips
        self._recordings = recordings
        self._batch = batch
        self._seed = seed
        self._journeys = journeys

    def __iter__(self) -> Iterator[ClipBatch]:
        worker = get_worker_info()
        dice = np.random.default_rng((self._seed, worker.id if worker else 0))
        microphone = Microphone(self._domain, self._recordings, self._clips(), dice, self._journeys)
        audio = self._config.thinker.audio
        layout = Layout(self._tokenizer, self._config.tokens, MelFilters(audio.mel_bins))
        spoken = passes(self._clips, dice)
        while True:
            taken = [
                microphone.nobody() if dice.random() < _NO_SPEECH else microphone.record(next(spoken))
                for _ in range(self._batch)
            ]
            yield join_clips([microphone.mask(layout.hear(one)) for one in taken], 2 * audio.n_window)
