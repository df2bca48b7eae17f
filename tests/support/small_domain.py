"""A domain of two intents."""

from __future__ import annotations

from train.corpus.domain import Domain, Intent

DOMAIN = Domain(
    intents=(
        Intent("cats", "animals", "Cats sleep all day.", ("what do cats do", "tell me about cats"), ("do cats sleep",)),
        Intent(
            "dogs", "animals", "Dogs like long walks.", ("what do dogs do", "tell me about dogs"), ("do dogs walk",)
        ),
    ),
    outside=("who are you",),
    outside_held_out=("where am I",),
    outside_answer="I only know cats and dogs.",
    greeting="Hello there.",
    repeat=("say that again",),
    repeat_held_out=("once more",),
    prompts=("A quiet street.",),
)
