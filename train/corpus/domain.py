"""What chroma-nano understands and says: a closed domain of intents, read from domain.toml beside this file.

More ways to ask the same are in paraphrases.toml.
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
    """One thing a user may want, and the sentence that answers it.

    `questions` are the phrasings to train on; the phrasings of `held_out` only measure.
    """

    name: str
    topic: str
    answer: str
    questions: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """All that is said to the model and all that it says.

    `outside` are questions without an intent: `outside_answer` answers them. `repeat` asks for the previous reply once
    more; with none before, the answer is `outside_answer`. `prompts` are sentences that no reply contains: voice
    prompts, and variety for the codec. `paraphrases` are further ways to ask for all of this.
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
        """Raises `ValueError` for a sentence that stands for two things, naming it."""
        _refuse_duplicates("intent", (intent.name for intent in self.intents))
        _refuse_duplicates("phrasing", map(plain, self.phrasings()))
        _refuse_duplicates("reply or prompt", map(plain, (*self.replies, *self.prompts)))

    @property
    def replies(self) -> tuple[str, ...]:
        """Every sentence the speech model must be able to say: the answers, the outside answer, the greeting."""
        return (*(intent.answer for intent in self.intents), self.outside_answer, self.greeting)

    def phrasings(self) -> Iterator[str]:
        """Everything a user may say here, trained on or held out, paraphrases aside."""
        for intent in self.intents:
            yield from intent.questions
            yield from intent.held_out
        yield from (*self.outside, *self.outside_held_out, *self.repeat, *self.repeat_held_out)


@cache
def load_domain() -> Domain:
    """The domain of domain.toml and paraphrases.toml. Raises `ValueError` for a sentence that stands for two things."""
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
