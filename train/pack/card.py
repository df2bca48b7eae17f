"""card.json of chroma-nano: what the checkpoint says of itself, with the sentences that it is trained to say."""

from __future__ import annotations

from typing import Any

from train.corpus.domain import Domain


def nano_card(domain: Domain) -> dict[str, Any]:
    """Return the content of the file."""
    return {
        "summary": (
            "A small demonstration that runs on two CPU cores. It answers a hundred English questions in fixed "
            "sentences, and says so when it does not know. It cannot say other sentences."
        ),
        "topics": [
            "the museum",
            "capitals",
            "sums",
            "days and months",
            "animals",
            "nature",
            "cooking",
            "small talk",
        ],
        "examples": [
            "How do I make a taco?",
            "What is the capital of France?",
            "When does the museum open?",
            "What is the fastest animal?",
            "Tell me a joke.",
            "What can you do?",
        ],
        "voices": "This checkpoint has four voices and does not clone: a new voice sounds like one of the four.",
        "preview": domain.greeting,
        "sentences": sorted(domain.replies),
    }
