"""Checked values of one section of config.json. A value that is absent or null is the given default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.common.errors import CheckpointError

Section = Mapping[str, Any]

MAX_INTEGER = 1 << 31
"""Above every size and id of a checkpoint."""


def subsection(parent: Section, key: str) -> Section:
    """An inner object, empty when it is left out. Raises `CheckpointError` for a value of another type."""
    section = parent.get(key)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise CheckpointError(f"config.json: {key}: expected an object, found {repr(section)[:200]}")
    return section


def integer(section: Section, key: str, default: int) -> int:
    """A whole number from 0. Raises `CheckpointError` for another value."""
    value = _checked(section, key, default)
    if value != int(value) or not 0 <= value < MAX_INTEGER:
        raise CheckpointError(f"config.json: {key}: expected a whole number of 0 to {MAX_INTEGER - 1}, found {value!r}")
    return int(value)


def size(section: Section, key: str, default: int) -> int:
    """A whole number from 1: a number of layers, a width. Raises `CheckpointError` for another value."""
    value = integer(section, key, default)
    if value < 1:
        raise CheckpointError(f"config.json: {key}: expected a whole number of 1 or more, found {value}")
    return value


def number(section: Section, key: str, default: float) -> float:
    """A number. Raises `CheckpointError` when the value is no number."""
    return float(_checked(section, key, default))


def _checked(section: Section, key: str, default: float) -> float:
    value = section.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        raise CheckpointError(f"config.json: {key}: expected a number, found {repr(value)[:200]}")
    return value
