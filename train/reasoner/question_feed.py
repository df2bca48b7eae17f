"""Batches of conversations without end, every recording on a journey of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from services.reasoner.model.mel import MelFilters
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.tokenizer import Tokenizer
from train.audio.augment import NEAR, Journey
from train.corpus.clip_index import Clip
from train.corpus.domain import Domain
from train.hearing.recordings import Microphone, Recordings
from train.reasoner.conversation_batch import ConversationBatch, LaidOut, join
from train.reasoner.conversations import Conversation, ConversationSource, Turn
from train.reasoner.layout import Layout, Said


class QuestionFeed(IterableDataset[list[ConversationBatch]]):
    """Endless steps of `batch` conversations each, as groups of `group` conversations of about the same length.

    Every worker that reads it draws conversations of its own. `clips` is asked for the clips to train on
    before each pass over them.
    """

    def __init__(
        self,
        config: ChromaConfig,
        tokenizer: Tokenizer,
        domain: Domain,
        clips: Callable[[], Sequence[Clip]],
        recordings: Recordings,
        *,
        batch: int,
        group: int,
        seed: int,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._domain = domain
        self._clips = clips
        self._recordings = recordings
        self._batch = batch
        self._group = group
        self._seed = seed

    def __iter__(self) -> Iterator[list[ConversationBatch]]:
        worker = get_worker_info()
        dice = np.random.default_rng((self._seed, worker.id if worker else 0))
        source = iter(ConversationSource(self._domain, self._clips, dice))
        microphone = Microphone(self._domain, self._recordings, self._clips(), dice, (NEAR, Journey()))
        audio = self._config.thinker.audio
        layout = Layout(self._tokenizer, self._config.tokens, MelFilters(audio.mel_bins))
        while True:
            laid_out = [self._lay_out(next(source), layout, microphone) for _ in range(self._batch)]
            laid_out.sort(key=lambda one: len(one.ids))
            yield [
                join(
                    laid_out[start : start + self._group],
                    audio_id=self._config.tokens.audio,
                    chunk_frames=2 * audio.n_window,
                )
                for start in range(0, len(laid_out), self._group)
            ]

    def _lay_out(self, conversation: Conversation, layout: Layout, microphone: Microphone) -> LaidOut:
        laid_out = layout(
            [(_say(turn, microphone), turn.reply) for turn in conversation.turns],
            system_prompt=conversation.system_prompt,
            greeting=self._domain.greeting if conversation.greeted else None,
        )
        return replace(laid_out, clips=[microphone.mask(clip) for clip in laid_out.clips])


def _say(turn: Turn, microphone: Microphone) -> Said:
    if turn.typed is not None:
        return turn.typed
    return microphone.nobody() if turn.clip is None else microphone.record(turn.clip)
