"""More phrasings than domain.toml has, read from paraphrases.toml.xz: only for training, never for measurement.

To edit the file, unpack it with `xz -d`, and pack it again with `xz -9e`.

They may change at any time: the vocabulary is made from the words of domain.toml and does not depend on them.
"""

from __future__ import annotations

import lzma
import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.corpus.patterns import expand, plain

PARAPHRASES_FILE = Path(__file__).with_name("paraphrases.toml.xz")

OUTSIDE = "outside"
REPEAT = "repeat"

Phrasings = tuple[str, ...]
"""The phrasings of one pattern."""


@dataclass(frozen=True)
class Paraphrases:
    """The sources of each subject (an intent's name, "outside" or "repeat"); each source has patterns.

    The first source is the subject's own patterns. The other sources are families: several subjects share their
    patterns. A subject without patterns of its own has families only. `draw` chooses first a source, then one of its
    patterns, then one of its phrasings, so a pattern with many phrasings is not drawn more often. It takes the first
    source half of the time, because dozens of families have near misses for "outside".
    """

    by_subject: Mapping[str, tuple[tuple[Phrasings, ...], ...]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """All pairs of subject and phrasing."""
        for subject, sources in self.by_subject.items():
            for source in sources:
                for phrasings in source:
                    for phrasing in phrasings:
                        yield subject, phrasing

    def draw(self, subject: str, dice: random.Random) -> str | None:
        """A random phrasing of `subject`; None when it has none."""
        sources = self.by_subject.get(subject)
        if not sources:
            return None
        first, *others = sources
        source = dice.choice(others) if others and dice.random() < 0.5 else first
        return dice.choice(dice.choice(source))

    def some(self, subject: str, count: int, dice: random.Random) -> list[str]:
        """Up to `count` different phrasings: as many as 2 * `count` draws give."""
        drawn: dict[str, None] = {}
        for _ in range(2 * count):
            phrasing = self.draw(subject, dice)
            if phrasing is None or len(drawn) == count:
                break
            drawn[phrasing] = None
        return list(drawn)


def read_paraphrases(path: Path, known: Mapping[str, str], held_out: frozenset[str]) -> Paraphrases:
    """The paraphrases of a file packed with xz, without those that equal one of `held_out`.

    Phrasings are compared in the form of `plain`. `known` is the subject of every phrasing of the domain, `held_out`
    are the domain's phrasings for measurement; both are in this form. A near miss for "outside" that equals a phrasing
    of an intent is left out. Raises `ValueError` for any other phrasing with two subjects, with both names.
    """
    content = tomllib.loads(lzma.decompress(path.read_bytes()).decode())
    sources: dict[str, list[tuple[Phrasings, ...]]] = {}
    meanings = dict(known)
    # A stable sort: all intents come before "outside".
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
    """All sources: the subject, and the patterns with their fillings."""
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
