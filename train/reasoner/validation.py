"""Validation of the reasoner with recordings that training never uses: the share of exact answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile as sf
import soxr
import torch

from services.common.wire.audio import HEARING_RATE_HZ
from services.reasoner.model.mel import MelFilters
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.tokenizer import Tokenizer
from train.corpus.clip_index import Clip, subject_of
from train.corpus.domain import Domain
from train.hearing.auxiliary_tasks import SubjectHead, subject_numbers
from train.hearing.clip_features import Recording
from train.hearing.recordings import ClipReader
from train.reasoner.conversation_batch import ConversationBatch, LaidOut, join
from train.reasoner.conversations import answers, reply_to
from train.reasoner.layout import Layout
from train.reasoner.model import ReasonerModel

New = Literal["voice", "phrasing", "voice and phrasing"]
"""What training never uses in a held-out recording."""

_BATCH = 24

TACO = (Path("samples/question_make_taco.wav"), "please tell me how to make a taco", "taco")
"""A recording of a person, its text and its subject. Training never uses it."""


@dataclass(frozen=True)
class Question:
    """A recording and its right answer."""

    voice: str
    text: str
    about: str
    new: New
    reply: str
    conversation: LaidOut


@dataclass(frozen=True)
class ValidationResult:
    """The questions by result. A reply is right when all its tokens are right, im_end included."""

    right: tuple[Question, ...]
    wrong: tuple[Question, ...]

    def share(self, new: New | None = None) -> float:
        """Share of right replies to the questions with this `new`, or to all questions; NaN without questions."""
        right, wrong = (sum(new in (None, one.new) for one in some) for some in (self.right, self.wrong))
        return right / (right + wrong) if right + wrong else float("nan")

    def lines(self) -> Iterator[str]:
        """Lines of text: the share for each `new` and for each voice, and the subjects with the most wrong replies."""
        every = (*self.right, *self.wrong)
        for new in ("voice", "phrasing", "voice and phrasing"):
            yield f"new {new}: {self.share(new):.1%} of {sum(one.new == new for one in every)}"
        for voice in sorted({one.voice for one in every}):
            asked = sum(one.voice == voice for one in every)
            yield f"  {voice}: {sum(one.voice == voice for one in self.right) / asked:.1%} of {asked}"
        wrong = Counter(one.about for one in self.wrong).most_common(12)
        yield "wrong: " + ", ".join(f"{about} {count}" for about, count in wrong)


class ValidationSet:
    """Held-out questions, and the checks of a model with them."""

    def __init__(self, config: ChromaConfig, tokenizer: Tokenizer, domain: Domain) -> None:
        self._config = config
        self._domain = domain
        self._layout = Layout(tokenizer, config.tokens, MelFilters(config.thinker.audio.mel_bins))
        self.tokenizer = tokenizer
        self.questions: list[Question] = []

    def add_clips(self, clips: Sequence[Clip], folder: Path, *, most: int, seed: int = 0) -> None:
        """Add at most `most` of the held-out clips, drawn at random. `clips` is the whole manifest."""
        trained_voices = {clip.voice for clip in clips if not clip.held_out}
        trained_texts = {clip.text for clip in clips if not clip.held_out}
        held_out = [clip for clip in clips if clip.held_out]
        recordings, dice = ClipReader(folder), np.random.default_rng(seed)
        for index in dice.permutation(len(held_out))[:most]:
            clip = held_out[index]
            news = [
                what
                for what, old in (("voice", clip.voice in trained_voices), ("phrasing", clip.text in trained_texts))
                if not old
            ]
            new: New = "voice and phrasing" if len(news) != 1 else ("voice" if news == ["voice"] else "phrasing")
            self._add(recordings.read(clip), clip.voice, clip.text, subject_of(clip), new)

    def add_recording(self, path: Path, text: str, intent: str) -> None:
        """Add a sound file of any sample rate."""
        samples, rate_hz = sf.read(path, dtype="float32")
        samples = soxr.resample(samples, rate_hz, HEARING_RATE_HZ)
        self._add(np.asarray(samples, np.float32), path.stem, text, intent, "voice and phrasing")

    def _add(self, samples: np.ndarray, voice: str, text: str, about: str, new: New) -> None:
        reply = reply_to(about, None, answers(self._domain))
        recording = Recording(torch.from_numpy(samples), text, subject_numbers(self._domain)[about])
        laid_out = self._layout([(recording, reply)])
        self.questions.append(Question(voice, text, about, new, reply, laid_out))

    def check_replies(self, model: ReasonerModel) -> ValidationResult:
        """Which right replies greedy decoding would give: those whose tokens are all the likeliest ones.

        One teacher-forced pass decides this without decoding.
        """

        def wrong_rows(batch: ConversationBatch) -> set[int]:
            hidden = model.hidden(batch, model.audio_embeddings(batch.clips))
            wrong = model.logits(hidden).argmax(dim=-1) != batch.targets
            return set(batch.reply_of[wrong].tolist())

        return self._check(model, wrong_rows)

    def check_subjects(self, model: ReasonerModel, head: SubjectHead) -> ValidationResult:
        """Which subjects `head` names right from the tower's embeddings. Each question is one recording."""

        def wrong_rows(batch: ConversationBatch) -> set[int]:
            named = head(model.audio_embeddings(batch.clips), batch.clips.embedding_counts).argmax(dim=-1)
            return set((named != batch.clips.subjects).nonzero().flatten().tolist())

        return self._check(model, wrong_rows)

    @torch.inference_mode()
    def _check(self, model: ReasonerModel, wrong_rows: Callable[[ConversationBatch], set[int]]) -> ValidationResult:
        right: list[Question] = []
        wrong: list[Question] = []
        in_order = sorted(self.questions, key=lambda one: len(one.conversation.ids))
        device = model.lm_head.weight.device
        for start in range(0, len(in_order), _BATCH):
            questions = in_order[start : start + _BATCH]
            batch = join(
                [one.conversation for one in questions],
                audio_id=self._config.tokens.audio,
                chunk_frames=model.audio_tower.chunk_frames,
            ).to(device)
            with torch.autocast(device.type, torch.bfloat16):
                wrong_in_batch = wrong_rows(batch)
            for row, question in enumerate(questions):
                (wrong if row in wrong_in_batch else right).append(question)
        return ValidationResult(tuple(right), tuple(wrong))
