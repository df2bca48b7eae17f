"""Lead-ins: words such as "please tell me" that people say before a question and that do not change its meaning."""

from __future__ import annotations

from functools import cache

from train.corpus.domain import Domain
from train.corpus.patterns import plain

_BEFORE_QUESTIONS = (
    *("please tell me", "can you tell me", "could you tell me", "do you know", "I want to know"),
    *("I would like to know", "hey", "so", "well", "okay", "excuse me", "one question"),
)
_BEFORE_REQUESTS = ("please", "can you", "could you", "can you please", "hey", "now", "excuse me")
_BEFORE_OTHERS = ("hey", "well", "okay", "please")

_QUESTION_WORDS = frozenset(
    ("what", "how", "which", "where", "when", "who", "why", "is", "are", "do", "does", "can", "may", "am", "could")
)
_REQUEST_WORDS = frozenset(
    ("tell", "name", "add", "take", "make", "multiply", "say", "give", "show", "explain", "help", "find")
)


def with_lead_ins(text: str, domain: Domain) -> tuple[str, ...]:
    """A training phrasing after each lead-in that suits its first word.

    Variants that equal a phrasing of the domain are left out, whether that phrasing is held out or not.
    """
    first = text.split()[0].lower().strip(",.?!")
    fitting = (
        _BEFORE_QUESTIONS
        if first in _QUESTION_WORDS
        else _BEFORE_REQUESTS
        if first in _REQUEST_WORDS
        else _BEFORE_OTHERS
    )
    led = (f"{lead_in} {text}" for lead_in in fitting)
    return tuple(variant for variant in led if plain(variant) not in _sounds(domain))


@cache
def _sounds(domain: Domain) -> frozenset[str]:
    return frozenset(map(plain, domain.phrasings()))
