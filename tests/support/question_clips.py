"""A domain of two intents, and recordings of its questions, for tests of the evaluation."""

from __future__ import annotations

from train.corpus.clip_index import Clip, Role
from train.corpus.domain import Domain, Intent

DOMAIN = Domain(
    intents=(
        Intent("taco", "cooking", "Warm a tortilla.", ("how do I make a taco",), ("teach me tacos",)),
        Intent("paris", "capitals", "It is Paris.", ("capital of France",), ("France has which capital",)),
    ),
    outside=("is it late",),
    outside_held_out=("call a cab",),
    outside_answer="I do not know.",
    greeting="Hello there.",
    repeat=("again",),
    repeat_held_out=("once more",),
    prompts=("A prompt.",),
)


def clip(text: str, role: Role, intent: str | None = None, *, held_out: bool = True, voice: str = "zoe") -> Clip:
    return Clip(f"questions/{voice}/{role}-{text}.wav", voice, text, role, intent, 1.0, held_out)


CLIPS = [
    clip("how do I make a taco", "question", "taco", held_out=False, voice="yan"),
    clip("how do I make a taco", "question", "taco"),
    clip("teach me tacos", "question", "taco"),
    clip("France has which capital", "question", "paris"),
    clip("is it late", "outside"),
    clip("call a cab", "outside"),
    clip("once more", "repeat"),
]
