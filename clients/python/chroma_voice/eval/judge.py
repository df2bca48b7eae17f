"""Judges recordings: the words with the recogniser, the voice with the speaker encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from chroma_voice.eval.recognition.transcription import Recogniser, Recording, load
from chroma_voice.eval.recognition.word_errors import WordErrors, word_errors
from chroma_voice.eval.recognition.words import normalise
from chroma_voice.eval.speakers.likeness import Encoder, Likeness, Voices, likeness


@dataclass(frozen=True)
class Judged:
    """A judged recording, an original or a reply: its text, its transcript, and its likeness to the voices.

    `ended` is the reason why a reply's sound ended; None for an original.
    """

    voice: str
    text: str
    transcript: str
    errors: WordErrors
    likeness: Likeness
    ended: str | None


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
        """One judgement for each recording, in order. `ended` has the reason why each sound ended.

        All words of the transcript of a text without words are wrong.
        """

        def one(recording: Recording, end: str | None) -> Judged:
            samples = load(recording.path)
            transcript = self.recogniser(samples) if len(samples) else ""
            alike = likeness(recording.voice, samples, self.encoder, self.prompts)
            errors = _errors(recording.text, transcript)
            done()
            return Judged(recording.voice, recording.text, transcript, errors, alike, end)

        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(one, recordings, ended))


def _errors(text: str, transcript: str) -> WordErrors:
    return word_errors(text, transcript) if normalise(text) else WordErrors(len(normalise(transcript).split()), 0)
