"""What befalls a question before it is heard: the recordings once more, as they come from a desk in a hurry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from services.common.wire.audio import HEARING_RATE_HZ
from train.audio.augment import STILL, Augmenter, Journey
from train.audio.noises import Samples
from train.evaluation.listening import load
from train.evaluation.questions import Question

MISHAPS: Mapping[str, Journey] = {
    "with 1.5 to 2 s of silence before and after": replace(STILL, pause_s=(1.5, 2.0)),
    "so loud that it is cut off (RMS -3 dB)": replace(STILL, level_db=(-3.0, -3.0)),
    "very quiet (RMS -50 dB)": replace(STILL, level_db=(-50.0, -50.0)),
    "among noise and babble, 10 dB below": replace(STILL, noise_share=1.0, noise_db=(10.0, 10.0)),
    "across a room": replace(STILL, room_share=1.0),
    "by telephone": replace(STILL, telephone_share=1.0),
}
"""By what they are called in the report."""


@dataclass(frozen=True)
class Befallen:
    """A spoken question and the mishap, one of `MISHAPS`, that befalls its recording; `others` are heard as babble."""

    question: Question
    mishap: str
    others: Sequence[Question]

    def record(self, path: Path, seed: int) -> Question:
        """The question with its new recording, a WAV at 16 kHz written to `path`, in the mishap's group."""
        dice = np.random.default_rng(seed)

        def chatter() -> Samples:
            return _sound(self.others[int(dice.integers(len(self.others)))])

        sound = Augmenter(dice, chatter, MISHAPS[self.mishap])(_sound(self.question))
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, HEARING_RATE_HZ, subtype="PCM_16")
        return replace(self.question, group=self.mishap, recording=path)


def all_befallen(questions: Sequence[Question]) -> list[Befallen]:
    """Every mishap befalls each of these spoken questions."""
    return [Befallen(question, mishap, questions) for mishap in MISHAPS for question in questions]


def _sound(question: Question) -> Samples:
    assert question.recording is not None, "a spoken question has a recording"
    return load(question.recording, HEARING_RATE_HZ)
