"""Questions of the evaluation are held out and grouped."""

from collections import Counter
from pathlib import Path

from train.corpus.clip_index import Clip, Role
from train.corpus.domain import Domain, Intent
from train.evaluation.questions import (
    NEW,
    OUTSIDE_NEW,
    OUTSIDE_TRAINED,
    TRAINED,
    spoken_questions,
)

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


def test_held_out_recordings_are_grouped_by_what_was_trained_on() -> None:
    found = spoken_questions(CLIPS, Path("audio"), DOMAIN)

    assert Counter(question.group for question in found) == {NEW: 2, TRAINED: 1, OUTSIDE_NEW: 1, OUTSIDE_TRAINED: 1}
    assert {question.voice for question in found} == {"zoe"}
    assert found[1].expected == "Warm a tortilla."
    assert found[1].recording == Path("audio/questions/zoe/question-teach me tacos.wav")
    assert found[4].expected == "I do not know."
