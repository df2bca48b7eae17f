"""What befalls a question before it is heard: the recordings once more, as they come from a desk in a hurry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from services.common.wire.audio import HEARING_RATE_HZ
from train.audio.augment import UNCHANGED, Augmenter, AugmentationSettings
from train.audio.noises import Samples
from train.evaluation.transcription import load
from train.evaluation.questions import Question

DEGRADATIONS: Mapping[str, AugmentationSettings] = {
    "with 1.5 to 2 s of silence before and after": replace(UNCHANGED, pause_s=(1.5, 2.0)),
    "so loud that it is cut off (RMS -3 dB)": replace(UNCHANGED, level_db=(-3.0, -3.0)),
    "very quiet (RMS -50 dB)": replace(UNCHANGED, level_db=(-50.0, -50.0)),
    "among noise and babble, 10 dB below": replace(UNCHANGED, noise_share=1.0, noise_db=(10.0, 10.0)),
    "across a room": replace(UNCHANGED, room_share=1.0),
    "by telephone": replace(UNCHANGED, telephone_share=1.0),
}
"""By what they are called in the report."""


@dataclass(frozen=True)
class DegradedQuestion:
    """A spoken question and the degradation, one of `DEGRADATIONS`, that befalls its recording; `others` are heard as babble."""

    question: Question
    degradation: str
    others: Sequence[Question]

    def record(self, path: Path, seed: int) -> Question:
        """The question with its new recording, a WAV at 16 kHz written to `path`, in the degradation's group."""
        dice = np.random.default_rng(seed)

        def chatter() -> Samples:
            return _sound(self.others[int(dice.integers(len(self.others)))])

        sound = Augmenter(dice, chatter, DEGRADATIONS[self.degradation])(_sound(self.question))
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, HEARING_RATE_HZ, subtype="PCM_16")
        return replace(self.question, group=self.degradation, recording=path)


def all_degraded(questions: Sequence[Question]) -> list[DegradedQuestion]:
    """Every degradation befalls each of these spoken questions."""
    return [DegradedQuestion(question, degradation, questions) for degradation in DEGRADATIONS for question in questions]


def _sound(question: Question) -> Samples:
    assert question.recording is not None, "a spoken question has a recording"
    return load(question.recording, HEARING_RATE_HZ)
