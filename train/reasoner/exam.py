"""What the reasoner makes of recordings it was never trained on: exact answers, by what was new in them."""

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
from train.corpus.clip_index import Clip
from train.corpus.domain import Domain
from train.hearing.auxiliary_tasks import SubjectHead, subject_numbers
from train.hearing.recordings import Recordings
from train.reasoner.conversation_batch import ConversationBatch, LaidOut, join
from train.reasoner.conversations import answers, reply_to, subject
from train.reasoner.layout import Layout, Recording
from train.reasoner.model import ReasonerModel

New = Literal["voice", "phrasing", "voice and phrasing"]
GROUP = 24

TACO = (Path("samples/question_make_taco.wav"), "please tell me how to make a taco", "taco")
"""A recording of a person, its text and its subject; never trained on."""


@dataclass(frozen=True)
class Question:
    """A recording and the answer that is right."""

    voice: str
    text: str
    about: str
    new: New
    reply: str
    conversation: LaidOut


@dataclass(frozen=True)
class Marks:
    """Which questions were answered with exactly the right tokens, im_end included."""

    right: tuple[Question, ...]
    wrong: tuple[Question, ...]

    def share(self, new: New | None = None) -> float:
        """Of the questions in which this was new, or of all; NaN when there are none."""
        right, wrong = (sum(new in (None, one.new) for one in some) for some in (self.right, self.wrong))
        return right / (right + wrong) if right + wrong else float("nan")

    def lines(self) -> Iterator[str]:
        """For people: the share by what was new, by voice, and which subjects are missed most."""
        every = (*self.right, *self.wrong)
        for new in ("voice", "phrasing", "voice and phrasing"):
            yield f"new {new}: {self.share(new):.1%} of {sum(one.new == new for one in every)}"
        for voice in sorted({one.voice for one in every}):
            asked = sum(one.voice == voice for one in every)
            yield f"  {voice}: {sum(one.voice == voice for one in self.right) / asked:.1%} of {asked}"
        missed = Counter(one.about for one in self.wrong).most_common(12)
        yield "missed: " + ", ".join(f"{about} {count}" for about, count in missed)


class Exam:
    """Questions to put to a model at any time."""

    def __init__(self, config: ChromaConfig, tokenizer: Tokenizer, domain: Domain) -> None:
        self._config = config
        self._domain = domain
        self._layout = Layout(tokenizer, config.tokens, MelFilters(config.thinker.audio.mel_bins))
        self.tokenizer = tokenizer
        self.questions: list[Question] = []

    def add_clips(self, clips: Sequence[Clip], folder: Path, *, most: int, seed: int = 0) -> None:
        """At most `most` of the clips that are held out, spread at random. `clips` is the whole manifest."""
        heard_voices = {clip.voice for clip in clips if not clip.held_out}
        heard_texts = {clip.text for clip in clips if not clip.held_out}
        held_out = [clip for clip in clips if clip.held_out]
        recordings, dice = Recordings(folder), np.random.default_rng(seed)
        for index in dice.permutation(len(held_out))[:most]:
            clip = held_out[index]
            news = [
                what
                for what, old in (("voice", clip.voice in heard_voices), ("phrasing", clip.text in heard_texts))
                if not old
            ]
            new: New = "voice and phrasing" if len(news) != 1 else ("voice" if news == ["voice"] else "phrasing")
            self._add(recordings.read(clip), clip.voice, clip.text, subject(clip), new)

    def add_recording(self, path: Path, text: str, intent: str) -> None:
        """A sound file of any rate."""
        samples, rate_hz = sf.read(path, dtype="float32")
        samples = soxr.resample(samples, rate_hz, HEARING_RATE_HZ)
        self._add(np.asarray(samples, np.float32), path.stem, text, intent, "voice and phrasing")

    def _add(self, samples: np.ndarray, voice: str, text: str, about: str, new: New) -> None:
        reply = reply_to(about, None, answers(self._domain))
        recording = Recording(torch.from_numpy(samples), text, subject_numbers(self._domain)[about])
        laid_out = self._layout([(recording, reply)])
        self.questions.append(Question(voice, text, about, new, reply, laid_out))

    def sit(self, model: ReasonerModel) -> Marks:
        """Greedy decoding gives a reply exactly when each of its tokens is the likeliest after those before it."""

        def wrong_rows(batch: ConversationBatch) -> set[int]:
            hidden = model.hidden(batch, model.heard(batch.clips))
            missed = model.logits(hidden).argmax(dim=-1) != batch.targets
            return set(batch.reply_of[missed].tolist())

        return self._mark(model, wrong_rows)

    def listen(self, model: ReasonerModel, head: SubjectHead) -> Marks:
        """Which subjects the tower's rows tell `head`. Each question is one recording."""

        def wrong_rows(batch: ConversationBatch) -> set[int]:
            named = head(model.heard(batch.clips), batch.clips.clip_rows).argmax(dim=-1)
            return set((named != batch.clips.subjects).nonzero().flatten().tolist())

        return self._mark(model, wrong_rows)

    @torch.inference_mode()
    def _mark(self, model: ReasonerModel, wrong_rows: Callable[[ConversationBatch], set[int]]) -> Marks:
        right: list[Question] = []
        wrong: list[Question] = []
        in_order = sorted(self.questions, key=lambda one: len(one.conversation.ids))
        device = model.lm_head.weight.device
        for start in range(0, len(in_order), GROUP):
            questions = in_order[start : start + GROUP]
            batch = join(
                [one.conversation for one in questions],
                audio_id=self._config.tokens.audio,
                chunk_frames=model.audio_tower.chunk_frames,
            ).to(device)
            with torch.autocast(device.type, torch.bfloat16):
                missed = wrong_rows(batch)
            for row, question in enumerate(questions):
                (wrong if row in missed else right).append(question)
        return Marks(tuple(right), tuple(wrong))
