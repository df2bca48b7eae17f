"""Checked values of one section of config.json. A value that is absent or null is the given default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.common.errors import CheckpointError

Section = Mapping[str, Any]


def subsection(parent: Section, key: str) -> Section:
    """An inner object, empty when it is left out. Raises `CheckpointError` for a value of another type."""
    section = parent.get(key)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise CheckpointError(f"config.json: {key}: expected an object, found {section!r}")
    return section


def integer(section: Section, key: str, default: int) -> int:
    """A whole number. Raises `CheckpointError` when the value is no number."""
    return int(_checked(section, key, default))


def number(section: Section, key: str, default: float) -> float:
    """A number. Raises `CheckpointError` when the value is no number."""
    return float(_checked(section, key, default))


def _checked(section: Section, key: str, default: float) -> float:
    value = section.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CheckpointError(f"config.json: {key}: expected a number, found {value!r}")
    return value
