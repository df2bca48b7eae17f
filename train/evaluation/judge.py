"""Judges recordings: the words with the recogniser, the voice with the speaker encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from train.evaluation.recognition.transcription import Recogniser, Recording, load
from train.evaluation.recognition.word_errors import word_errors
from train.evaluation.results import Judged
from train.evaluation.speakers.likeness import Encoder, Voices, likeness


@dataclass(frozen=True)
class Judge:
    """Judges recordings, `at_once` of them at the same time. It compares their voices with those of `prompts`."""

    recogniser: Recogniser
    encoder: Encoder
    prompts: Voices
    at_once: int = 1

    def with_prompts(self, prompts: Voices) -> Judge:
        """The same judge with other voices to compare with."""
        return replace(self, prompts=prompts)

    def judge(
        self, recordings: Sequence[Recording], ended: Sequence[str | None], done: Callable[[], None]
    ) -> list[Judged]:
        """One judgement for each recording, in order. `ended` has the reason why each sound ended."""

        def one(recording: Recording, end: str | None) -> Judged:
            samples = load(recording.path)
            transcript = self.recogniser(samples) if len(samples) else ""
            alike = likeness(recording.voice, samples, self.encoder, self.prompts)
            errors = word_errors(recording.text, transcript)
            done()
            return Judged(recording.voice, recording.text, transcript, errors, alike, end)

        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(one, recordings, ended))
