"""Endless batches of conversations, with a random augmentation of each recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from services.reasoner.model.mel import MelFilters
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.tokenizer import Tokenizer
from train.audio.augment import NEAR, AugmentationSettings
from train.corpus.clip_index import Clip
from train.corpus.domain import Domain
from train.hearing.recordings import ClipReader, RecordingSource
from train.reasoner.conversation_batch import ConversationBatch, LaidOut, join
from train.reasoner.conversations import Conversation, ConversationSource, Turn
from train.reasoner.layout import Layout, UserInput


class ConversationFeed(IterableDataset[list[ConversationBatch]]):
    """Endless steps of `batch` conversations each, in groups of `group` conversations of about the same length.

    Each worker process draws conversations of its own. Each pass over the clips begins with a call of `clips`, which
    returns the clips to train on.
    """

    def __init__(
        self,
        config: ChromaConfig,
        tokenizer: Tokenizer,
        domain: Domain,
        clips: Callable[[], Sequence[Clip]],
        reader: ClipReader,
        *,
        batch: int,
        group: int,
        seed: int,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._domain = domain
        self._clips = clips
        self._reader = reader
        self._batch = batch
        self._group = group
        self._seed = seed

    def __iter__(self) -> Iterator[list[ConversationBatch]]:
        worker = get_worker_info()
        dice = np.random.default_rng((self._seed, worker.id if worker else 0))
        conversations = iter(ConversationSource(self._domain, self._clips, dice))
        augmentations = (NEAR, AugmentationSettings())
        recordings = RecordingSource(self._domain, self._reader, self._clips(), dice, augmentations)
        audio = self._config.thinker.audio
        layout = Layout(self._tokenizer, self._config.tokens, MelFilters(audio.mel_bins))
        while True:
            laid_out = [self._lay_out(next(conversations), layout, recordings) for _ in range(self._batch)]
            laid_out.sort(key=lambda one: len(one.ids))
            yield [
                join(
                    laid_out[start : start + self._group],
                    audio_id=self._config.tokens.audio,
                    chunk_frames=2 * audio.n_window,
                )
                for start in range(0, len(laid_out), self._group)
            ]

    def _lay_out(self, conversation: Conversation, layout: Layout, recordings: RecordingSource) -> LaidOut:
        laid_out = layout(
            [(_user_input(turn, recordings), turn.reply) for turn in conversation.turns],
            system_prompt=conversation.system_prompt,
            greeting=self._domain.greeting if conversation.greeted else None,
        )
        return replace(laid_out, clips=[recordings.mask(clip) for clip in laid_out.clips])


def _user_input(turn: Turn, recordings: RecordingSource) -> UserInput:
    if turn.typed is not None:
        return turn.typed
    return recordings.without_speech() if turn.clip is None else recordings.record(turn.clip)
