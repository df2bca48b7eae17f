"""The closed domain of chroma-nano: intents with questions and answers, read from domain.toml beside this file.

paraphrases.toml.xz has more phrasings of the same questions.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from train.corpus.paraphrases import OUTSIDE, PARAPHRASES_FILE, REPEAT, Paraphrases, read_paraphrases
from train.corpus.patterns import plain

DOMAIN_FILE = Path(__file__).with_name("domain.toml")


@dataclass(frozen=True)
class Intent:
    """One question with its answer.

    `questions` are its phrasings for training; the phrasings of `held_out` are only for measurement.
    """

    name: str
    topic: str
    answer: str
    questions: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """Everything that users say to the model and everything that the model says.

    `outside` are questions without an intent; the answer to them is `outside_answer`. `repeat` are requests to say the
    previous reply again; without a previous reply, the answer is `outside_answer`. `prompts` are sentences of voice
    prompts; they are not replies, and they give the codec more variety. `paraphrases` are more phrasings of all
    questions and requests.
    """

    intents: tuple[Intent, ...]
    outside: tuple[str, ...]
    outside_held_out: tuple[str, ...]
    outside_answer: str
    greeting: str
    repeat: tuple[str, ...]
    repeat_held_out: tuple[str, ...]
    prompts: tuple[str, ...]
    paraphrases: Paraphrases = field(default_factory=Paraphrases, hash=False)

    def __post_init__(self) -> None:
        """Raises `ValueError` for a sentence that occurs twice, with the sentence."""
        _refuse_duplicates("intent", (intent.name for intent in self.intents))
        _refuse_duplicates("phrasing", map(plain, self.phrasings()))
        _refuse_duplicates("reply or prompt", map(plain, (*self.replies, *self.prompts)))

    @property
    def replies(self) -> tuple[str, ...]:
        """Every sentence the speech model must be able to say: the answers, the outside answer, the greeting."""
        return (*(intent.answer for intent in self.intents), self.outside_answer, self.greeting)

    def phrasings(self) -> Iterator[str]:
        """All phrasings of questions and requests, trained on or held out, without paraphrases."""
        for intent in self.intents:
            yield from intent.questions
            yield from intent.held_out
        yield from (*self.outside, *self.outside_held_out, *self.repeat, *self.repeat_held_out)


@cache
def load_domain() -> Domain:
    """The domain of domain.toml and paraphrases.toml.xz. Raises `ValueError` for a phrasing with two meanings."""
    content = tomllib.loads(DOMAIN_FILE.read_text(encoding="utf-8"))
    domain = Domain(
        intents=tuple(
            Intent(
                name=intent["name"],
                topic=intent["topic"],
                answer=intent["answer"],
                questions=tuple(intent["questions"]),
                held_out=tuple(intent["held_out"]),
            )
            for intent in content["intents"]
        ),
        outside=tuple(content["outside"]),
        outside_held_out=tuple(content["outside_held_out"]),
        outside_answer=content["outside_answer"],
        greeting=content["greeting"],
        repeat=tuple(content["repeat"]),
        repeat_held_out=tuple(content["repeat_held_out"]),
        prompts=tuple(content["prompts"]),
    )
    known = {plain(question): intent.name for intent in domain.intents for question in intent.questions}
    known |= {plain(question): OUTSIDE for question in domain.outside}
    known |= {plain(question): REPEAT for question in domain.repeat}
    held_out = frozenset(map(plain, domain.phrasings())) - known.keys()
    return replace(domain, paraphrases=read_paraphrases(PARAPHRASES_FILE, known, held_out))


def _refuse_duplicates(what: str, sentences: Iterable[str]) -> None:
    repeated = [sentence for sentence, count in Counter(sentences).items() if count > 1]
    if repeated:
        raise ValueError(f"expected every {what} once, found again: {'; '.join(repeated)}")
