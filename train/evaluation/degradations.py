"""Degraded recordings of questions: silence, clipping, low level, noise, a room, a telephone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from chroma_voice.eval.recognition.transcription import load
from services.common.wire.audio import HEARING_RATE_HZ
from train.audio.augment import UNCHANGED, AugmentationSettings, Augmenter
from train.audio.noises import Samples
from train.evaluation.questions import Question

DEGRADATIONS: Mapping[str, AugmentationSettings] = {
    "with 1.5 to 2 s of silence before and after": replace(UNCHANGED, pause_s=(1.5, 2.0)),
    "so loud that it clips (RMS -3 dB)": replace(UNCHANGED, level_db=(-3.0, -3.0)),
    "very quiet (RMS -50 dB)": replace(UNCHANGED, level_db=(-50.0, -50.0)),
    "among noise and babble, 10 dB below": replace(UNCHANGED, noise_share=1.0, noise_db=(10.0, 10.0)),
    "across a room": replace(UNCHANGED, room_share=1.0),
    "by telephone": replace(UNCHANGED, telephone_share=1.0),
}
"""Augmentations under their names in the report."""


@dataclass(frozen=True)
class DegradedQuestion:
    """A spoken question and a degradation of its recording, one of `DEGRADATIONS`. Babble is made of `others`."""

    question: Question
    degradation: str
    others: Sequence[Question]

    def record(self, path: Path, seed: int) -> Question:
        """Write the degraded recording, a WAV at 16 kHz, to `path`. Returns the question with this recording.

        The question's group is then the degradation.
        """
        dice = np.random.default_rng(seed)

        def other_clip() -> Samples:
            return _sound(self.others[int(dice.integers(len(self.others)))])

        sound = Augmenter(dice, other_clip, DEGRADATIONS[self.degradation])(_sound(self.question))
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, HEARING_RATE_HZ, subtype="PCM_16")
        return replace(self.question, group=self.degradation, recording=path)


def all_degraded(questions: Sequence[Question]) -> list[DegradedQuestion]:
    """Each of these spoken questions with every degradation."""
    return [
        DegradedQuestion(question, degradation, questions) for degradation in DEGRADATIONS for question in questions
    ]


def _sound(question: Question) -> Samples:
    assert question.recording is not None, "a spoken question has a recording"
    return load(question.recording, HEARING_RATE_HZ)
