"""A fake voice that hums, and a small domain for it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from train.audio.sound import Sound
from train.corpus.domain import Domain, Intent
from train.corpus.voices import AskingVoices, EngineVoices

SAMPLE_RATE_HZ = 22_050

DOMAIN = Domain(
    intents=(
        Intent("taco", "cooking", "Warm a tortilla.", ("how do I make a taco", "a taco please"), ("tacos, how",)),
        Intent("bark", "animals", "Dogs bark.", ("which animal barks", "who barks"), ("what is it that barks.",)),
    ),
    outside=("who won the game",),
    outside_held_out=("is it going to rain",),
    outside_answer="I do not know.",
    greeting="Hello.",
    repeat=("say that again",),
    repeat_held_out=("once more",),
    prompts=("The river is wide.", "My hat is green."),
)


@dataclass(frozen=True)
class HummingVoice:
    """Hums a tone whose length is that of the text, and records its calls in `said`."""

    name: str
    said: list[tuple[str, float]] = field(default_factory=list, compare=False)

    def say(self, text: str, speed: float) -> Sound:
        self.said.append((text, speed))
        time_s = np.arange(round(0.02 * len(text) / speed * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        return Sound(np.sin(2 * np.pi * 200 * time_s).astype(np.float32), SAMPLE_RATE_HZ)


def voices(kind: str, count: int) -> tuple[HummingVoice, ...]:
    """The voices kind_0, kind_1..."""
    return tuple(HummingVoice(f"{kind}_{number}") for number in range(count))


def asking_voices() -> AskingVoices:
    """Fake voices: for each engine, more than say one phrasing."""
    return AskingVoices(
        kokoro=EngineVoices(voices("kokoro", 5), voices("kokoro_held_out", 2)),
        flite=EngineVoices(voices("flite", 5), voices("flite_held_out", 1)),
        espeak=EngineVoices(voices("espeak", 9), voices("espeak_held_out", 1)),
    )
