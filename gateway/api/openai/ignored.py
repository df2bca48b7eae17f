"""The header that tells a client which of its parameters have no effect."""

from __future__ import annotations

from collections.abc import Iterable

IGNORED_HEADER = "x-ignored-parameters"


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """Return the header that names these parameters. Without names there is none."""
    listed = ", ".join(names)
    return {IGNORED_HEADER: listed} if listed else {}
