"""Batches of conversations without end, every recording on a journey of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch.utils.data import IterableDataset, get_worker_info

from services.common.audio import HEARING_RATE_HZ
from services.reasoner.model.mel import MelFilters
from services.runtime.config import ChromaConfig
from services.runtime.tokenizer import Tokenizer
from train.augment import Augmenter, mask
from train.conversation_batch import ConversationBatch, HeardClip, LaidOut, join
from train.conversations import Conversation, ConversationSource, Turn
from train.corpus import Clip
from train.domain import Domain
from train.layout import Layout, Said
from train.noises import Samples, no_speech
from train.spelling import spell


class Recordings:
    """The clips of an audio folder, each read once and kept as int16: 32 kB a second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, np.ndarray] = {}

    def read(self, clip: Clip) -> Samples:
        """float32 [S] at 16 kHz. Raises `ValueError` for another rate."""
        if clip.path not in self._held:
            samples, rate_hz = sf.read(self._folder / clip.path, dtype="int16")
            if rate_hz != HEARING_RATE_HZ:
                raise ValueError(f"{clip.path}: expected {HEARING_RATE_HZ} Hz, found {rate_hz}")
            self._held[clip.path] = samples
        return self._held[clip.path].astype(np.float32) / 32_768


class QuestionFeed(IterableDataset[list[ConversationBatch]]):
    """Endless steps of `batch` conversations each, as groups of `group` conversations of about the same length.

    Every worker that reads it draws conversations of its own.
    """

    def __init__(
        self,
        config: ChromaConfig,
        tokenizer: Tokenizer,
        domain: Domain,
        clips: Sequence[Clip],
        folder: Path,
        *,
        batch: int,
        group: int,
        seed: int,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._domain = domain
        self._clips = clips
        self._recordings = Recordings(folder)
        self._batch = batch
        self._group = group
        self._seed = seed

    def __iter__(self) -> Iterator[list[ConversationBatch]]:
        worker = get_worker_info()
        dice = np.random.default_rng((self._seed, worker.id if worker else 0))
        source = iter(ConversationSource(self._domain, self._clips, dice))
        augment = Augmenter(dice, lambda: self._recordings.read(self._clips[int(dice.integers(len(self._clips)))]))
        audio = self._config.thinker.audio
        layout = Layout(self._tokenizer, self._config.tokens, MelFilters(audio.mel_bins))
        while True:
            laid_out = [self._lay_out(next(source), layout, augment, dice) for _ in range(self._batch)]
            laid_out.sort(key=lambda one: len(one.ids))
            yield [
                join(
                    laid_out[start : start + self._group],
                    audio_id=self._config.tokens.audio,
                    chunk_frames=2 * audio.n_window,
                )
                for start in range(0, len(laid_out), self._group)
            ]

    def _lay_out(
        self, conversation: Conversation, layout: Layout, augment: Augmenter, dice: np.random.Generator
    ) -> LaidOut:
        laid_out = layout(
            [(self._say(turn, augment, dice), turn.reply) for turn in conversation.turns],
            system_prompt=conversation.system_prompt,
            greeting=self._domain.greeting if conversation.greeted else None,
        )
        clips = [HeardClip(mask(clip.mel, dice), clip.letters) for clip in laid_out.clips]
        return LaidOut(laid_out.ids, laid_out.target_at, laid_out.targets, clips)

    def _say(self, turn: Turn, augment: Augmenter, dice: np.random.Generator) -> Said:
        if turn.typed is not None:
            return turn.typed
        if turn.clip is None:
            return torch.from_numpy(no_speech(dice)), spell("")
        return torch.from_numpy(augment(self._recordings.read(turn.clip))), spell(turn.clip.text)
