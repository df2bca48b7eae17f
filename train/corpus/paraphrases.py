"""More ways to ask than domain.toml lists, read from paraphrases.toml: only to train on, never to measure.

They may change at any time. The words of domain.toml number the tokens of the vocabulary; those of paraphrases do not.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.corpus.patterns import expand, plain

PARAPHRASES_FILE = Path(__file__).with_name("paraphrases.toml")

OUTSIDE = "outside"
REPEAT = "repeat"

Phrasings = tuple[str, ...]
"""What one pattern expands to."""


@dataclass(frozen=True)
class Paraphrases:
    """By subject (an intent's name, "outside", "repeat"): sources, each of which has patterns.

    The first source is the subject's own patterns, the others are families, whose patterns several subjects share; a
    subject without patterns of its own has families only. Drawing takes a source, a pattern and a phrasing by turns,
    so a pattern that stands for much is not heard more often. The first source is taken half of the time: there are
    dozens of families with near misses for what lies outside.
    """

    by_subject: Mapping[str, tuple[tuple[Phrasings, ...], ...]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Every subject with every phrasing."""
        for subject, sources in self.by_subject.items():
            for source in sources:
                for phrasings in source:
                    for phrasing in phrasings:
                        yield subject, phrasing

    def draw(self, subject: str, dice: random.Random) -> str | None:
        """Any phrasing about `subject`; None when there is none."""
        sources = self.by_subject.get(subject)
        if not sources:
            return None
        first, *others = sources
        source = dice.choice(others) if others and dice.random() < 0.5 else first
        return dice.choice(dice.choice(source))

    def some(self, subject: str, count: int, dice: random.Random) -> list[str]:
        """About `count` different phrasings, from as many patterns as there are."""
        drawn: dict[str, None] = {}
        for _ in range(2 * count):
            phrasing = self.draw(subject, dice)
            if phrasing is None or len(drawn) == count:
                break
            drawn[phrasing] = None
        return list(drawn)


def read_paraphrases(path: Path, known: Mapping[str, str], held_out: frozenset[str]) -> Paraphrases:
    """The paraphrases of a file, without those that sound like one of `held_out`.

    `known`: the subject of every phrasing of the domain, as it sounds. `held_out` are phrasings as they sound. What a
    family has among its near misses though an intent asks for it is left out there: outside is what no intent has.
    Raises `ValueError` for a phrasing that stands for two subjects otherwise, naming both.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    sources: dict[str, list[tuple[Phrasings, ...]]] = {}
    meanings = dict(known)
    # Stable: intents come before what lies outside of them.
    for subject, patterns in sorted(_sources(content), key=lambda source: source[0] == OUTSIDE):
        barred = held_out
        if subject == OUTSIDE:
            barred = held_out | {sound for sound, other in meanings.items() if other != OUTSIDE}
        kept = tuple(
            phrasings
            for pattern, filling in patterns
            if (phrasings := tuple(one for one in expand(pattern, filling) if plain(one) not in barred))
        )
        for phrasing in (one for phrasings in kept for one in phrasings):
            other = meanings.setdefault(plain(phrasing), subject)
            if other != subject:
                raise ValueError(f"{path.name}: {phrasing!r} stands for {other} and for {subject}")
        if kept:
            sources.setdefault(subject, []).append(kept)
    return Paraphrases({subject: tuple(found) for subject, found in sources.items()})


def _sources(content: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, Sequence[str]]]]]:
    """Each source: its subject, and its patterns with their fillings."""
    own = {
        **content.get("intents", {}),
        **{name: content.get(name, {}).get("patterns", []) for name in (OUTSIDE, REPEAT)},
    }
    for subject, patterns in own.items():
        yield subject, [(pattern, ()) for pattern in patterns]
    for family in content.get("families", []):
        fillings = {**family["intents"], OUTSIDE: family.get("outside", [])}
        for subject, of_subject in fillings.items():
            yield subject, [(pattern, filling) for pattern in family["patterns"] for filling in of_subject]
