"""Patterns with alternatives, each for many phrasings: `(tell|show) me [please] how to make {0}`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

_GROUP = re.compile(r"\(([^()\[\]]*)\)|\[([^()\[\]]*)\]")
_LEFT_OVER = re.compile(r"[()\[\]|{}]")


def expand(pattern: str, filling: Sequence[str] = ()) -> tuple[str, ...]:
    """Every phrasing of `pattern`, in order. `(a|b)` is one of a and b, `[a|b]` one of them or nothing, `{0}` is
    `filling[0]`.

    Groups do not nest. Raises `ValueError` for an invalid pattern and for a slot without a filling.
    """
    parts: list[Sequence[str]] = []
    end = 0
    for group in _GROUP.finditer(pattern):
        one_of, maybe = group.groups()
        parts += [[pattern[end : group.start()]], one_of.split("|") if maybe is None else [*maybe.split("|"), ""]]
        end = group.end()
    parts.append([pattern[end:]])
    try:
        phrasings = [" ".join("".join(chosen).format(*filling).split()) for chosen in itertools.product(*parts)]
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(f"pattern {pattern!r}: no filling for a slot among {list(filling)}") from error
    if any(not phrasing or _LEFT_OVER.search(phrasing) for phrasing in phrasings):
        raise ValueError(f"pattern {pattern!r}: expected words, and brackets in pairs that do not nest")
    return tuple(dict.fromkeys(phrasing.replace(" ,", ",") for phrasing in phrasings))


def plain(sentence: str) -> str:
    """`sentence` in lower case, with words and apostrophes only. Sentences that sound the same have the same form."""
    return " ".join(re.findall(r"[a-z']+", sentence.lower()))
