"""A text in segments that one reply can hold."""

from __future__ import annotations

import re

_ENDS = (re.compile(r"[.!?…。！？]+[\"'”’)\]]*\s*"), re.compile(r"[,;:、，–—]\s*"), re.compile(r"\s+"))  # noqa: RUF001
"""Where a text is cut, the best places first: after sentences, after clauses, between words."""


def segments(text: str, max_chars: int) -> list[str]:
    """Cut the text into segments of at most `max_chars` characters, each as long as it can be. Joined they are the
    text."""
    found, start = [], 0
    while len(text) - start > max_chars:
        end = _last_end(text, start, start + max_chars)
        found.append(text[start:end])
        start = end
    if start < len(text):
        found.append(text[start:])
    return found


def _last_end(text: str, start: int, limit: int) -> int:
    """The last good place to cut between `start` and `limit`, in the second half if there is one."""
    for ends in _ENDS:
        places = [end.end() for end in ends.finditer(text, start, limit)]
        if places and places[-1] > (start + limit) // 2:
            return places[-1]
    return limit
