"""Copies of recordings at another pitch: further speakers without further synthesis.

A copy is a recording played slower or faster. Pitch and formants move together, as in the voice of another person. The
copies of the reply voices say every sentence, which no other speaker does; the speech model's targets are made of them
(`train.speech.conversions`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from train.corpus.clip_index import Clip
from train.corpus.voices import REPLY_VOICES

REPLY_VOICE_FACTORS = (0.8, 0.84, 0.88, 0.92, 0.96, 1.05, 1.1, 1.15, 1.2, 1.26)
"""Copies of each reply voice."""
SPEAKER_FACTORS = ((0.85, 0.95), (1.06, 1.17))
"""Copies of each speaker to clone that Kokoro says: one factor of each range, drawn for the speaker."""

_COPY = "~"


@dataclass(frozen=True)
class Spoken:
    """A clip, as it is or played `factor` times as fast."""

    clip: Clip
    factor: float = 1.0

    @property
    def key(self) -> str:
        """The clip's path, and the factor if it is not 1."""
        return self._named(self.clip.path)

    @property
    def voice(self) -> str:
        """The name of who seems to speak."""
        return self._named(self.clip.voice)

    def _named(self, name: str) -> str:
        return name if self.factor == 1.0 else f"{name}{_COPY}{self.factor}"


def factors_of(voice: str) -> tuple[float, ...]:
    """The factors of a voice's copies; none for flite and espeak-ng, whose voices exist at several pitches already."""
    if voice in REPLY_VOICES:
        return REPLY_VOICE_FACTORS
    if not voice.startswith("kokoro"):
        return ()
    draw = random.Random(int(hashlib.sha256(voice.encode()).hexdigest()[:8], 16))
    return tuple(round(draw.uniform(*limits), 3) for limits in SPEAKER_FACTORS)


def reply_voice_of(voice: str) -> str | None:
    """The reply voice that this voice is, or is a copy of; None for every other voice."""
    name = voice.partition(_COPY)[0]
    return name if name in REPLY_VOICES else None


def with_copies(clips: Iterable[Clip]) -> Iterator[Spoken]:
    """Each clip, followed by its copies; held-out clips have none."""
    for clip in clips:
        yield Spoken(clip)
        if not clip.held_out:
            yield from (Spoken(clip, factor) for factor in factors_of(clip.voice))
