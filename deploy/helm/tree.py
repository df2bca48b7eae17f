"""Manifests in which parts depend on values of the chart.

A tree is made from plain data. Differences between two builds are then added to it, each under the condition of the
component that makes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

Condition = tuple[str, ...]
"""Expressions of which one must be true."""


@dataclass
class Scalar:
    """A text, a number, a truth value or null. With `actions` the text has actions of Helm in it."""

    value: Any
    actions: bool = False


@dataclass
class Action:
    """A line's value that Helm writes, such as `{{ .Values.codec.replicas }}`."""

    text: str


@dataclass
class Lines:
    """A whole entry or item that Helm writes. `write` gets the indentation and returns the lines."""

    write: Callable[[int], list[str]]


@dataclass
class Map:
    """A mapping. A value may be a Choice with None, and the key is then absent."""

    entries: dict[str, Node]


@dataclass
class Sequence:
    """A list. Each item has a key by which it is found again."""

    items: list[tuple[str, Node]] = field(default_factory=list)


@dataclass
class Choice:
    """One of two nodes; None stands for nothing."""

    condition: Condition
    then: Node | None
    otherwise: Node | None


Node = Scalar | Action | Lines | Map | Sequence | Choice


_NAMES = ("mountPath", "name", "topologyKey")
"""The keys that name an item of a list, the best one first."""


def tree(value: Any) -> Node:
    """The tree of plain data."""
    if isinstance(value, dict):
        return Map({key: tree(item) for key, item in value.items()})
    if isinstance(value, list):
        return Sequence([(key_of(item), tree(item)) for item in value])
    return Scalar(value)


def key_of(item: Any) -> str:
    """What tells an item of a list from the others: its mount path or its name, or else its whole content."""
    return next((item[name] for name in _NAMES if _is_named(item) and name in item), json.dumps(item, sort_keys=True))


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and any(name in item for name in _NAMES)


def plain(node: Node) -> Any:
    """The data of a tree without what depends on a condition, as `tree` got it."""
    match node:
        case Scalar(value, False):
            return value
        case Map(entries):
            present = {key: always(item) for key, item in entries.items()}
            return {key: plain(item) for key, item in present.items() if item is not None}
        case Sequence(items):
            return [plain(kept) for _, item in items if (kept := always(item)) is not None]
        case Choice():
            return plain(settled(node))
    raise TypeError(f"{node} has no plain data")


def always(node: Node) -> Node | None:
    """What is there when no condition is true."""
    while isinstance(node, Choice):
        if node.otherwise is None:
            return None
        node = node.otherwise
    return node


def settled(node: Node) -> Node:
    """The part of a Choice that was there first: the base's, or else that of the component that added it."""
    while isinstance(node, Choice):
        following = node.otherwise if node.otherwise is not None else node.then
        if following is None:
            raise ValueError("a choice between nothing and nothing")
        node = following
    return node


def choose(condition: Condition, then: Node | None, otherwise: Node | None) -> Node:
    """A Choice. Two conditions with the same result become one."""
    if isinstance(otherwise, Choice) and otherwise.then == then:
        return Choice((*otherwise.condition, *condition), then, otherwise.otherwise)
    return Choice(condition, then, otherwise)


def apply(node: Node, before: Any, after: Any, condition: Condition) -> Node:
    """Add the difference between two plain values to a tree that holds the first of them."""
    if before == after:
        return node
    structures = all(isinstance(value, dict) for value in (before, after)) or (
        isinstance(before, list) and isinstance(after, list)
    )
    if isinstance(node, Choice) and structures:
        if node.otherwise is not None:
            return Choice(node.condition, node.then, apply(node.otherwise, before, after, condition))
        return Choice(node.condition, apply(settled(node), before, after, condition), None)
    if isinstance(node, Map) and isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            held = node.entries.get(key)
            if key not in after:
                node.entries[key] = choose(condition, None, held)
            elif key not in before:
                node.entries[key] = choose(condition, tree(after[key]), held)
            elif held is not None:
                node.entries[key] = apply(held, before[key], after[key], condition)
        return node
    if isinstance(node, Sequence) and isinstance(before, list) and isinstance(after, list):
        _apply_to_items(node, before, after, condition)
        return node
    return choose(condition, tree(after), node)


def _apply_to_items(node: Sequence, before: list[Any], after: list[Any], condition: Condition) -> None:
    old, new = [key_of(item) for item in before], [key_of(item) for item in after]
    for kind, i1, i2, j1, j2 in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if kind == "equal" or (kind == "replace" and i2 - i1 == j2 - j1):
            for was, becomes in zip(range(i1, i2), range(j1, j2), strict=True):
                place = _place(node, old[was])
                held = node.items[place][1]
                if kind == "replace" and _is_named(before[was]):
                    changed = choose(condition, tree(after[becomes]), held)
                else:
                    changed = apply(held, before[was], after[becomes], condition)
                node.items[place] = (old[was], changed)
            continue
        for was in range(i1, i2):
            place = _place(node, old[was])
            node.items[place] = (old[was], choose(condition, None, node.items[place][1]))
        place = _place(node, old[i2 - 1]) + 1 if i2 else 0
        node.items[place:place] = [(new[index], Choice(condition, tree(after[index]), None)) for index in range(j1, j2)]


def _place(node: Sequence, key: str) -> int:
    return next(index for index, (held, _) in enumerate(node.items) if held == key)


def replace(node: Node, path: str, new: Callable[[Node], Node], branch: str = "") -> Node:
    """Replace what was there first at a path; other branches of a Choice stay. `branch` is a condition: what it adds is
    replaced instead. A path is that of a JSON Pointer, with `~1` for a slash. Returns what takes the place of `node`.
    """
    if isinstance(node, Choice):
        if node.then is not None and (branch in node.condition or node.otherwise is None):
            node.then = replace(node.then, path, new, branch)
        elif node.otherwise is not None:
            node.otherwise = replace(node.otherwise, path, new, branch)
        return node
    if not path:
        return new(node)
    part, _, rest = path.partition("/")
    part = part.replace("~1", "/")
    match node:
        case Map(entries) if part in entries:
            entries[part] = replace(entries[part], rest, new, branch)
        case Sequence(items) if found := [index for index, (key, _) in enumerate(items) if part in (key, str(index))]:
            index = found[0]
            items[index] = (items[index][0], replace(items[index][1], rest, new, branch))
        case _:
            raise KeyError(f"no {part} before /{rest}")
    return node


def map_texts(node: Node, change: Callable[[str], Node]) -> Node:
    """Put the result of `change` in the place of every text, in every branch."""
    match node:
        case Scalar(value, False) if isinstance(value, str):
            return change(value)
        case Map(entries):
            for key, item in entries.items():
                entries[key] = map_texts(item, change)
        case Sequence(items):
            items[:] = [(key, map_texts(item, change)) for key, item in items]
        case Choice(_, then, otherwise):
            node.then = None if then is None else map_texts(then, change)
            node.otherwise = None if otherwise is None else map_texts(otherwise, change)
    return node
