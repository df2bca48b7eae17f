"""Templates as text: a tree with `{{- if }}` around what depends on a condition."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from itertools import groupby

import yaml

from deploy.helm.tree import Action, Choice, Condition, Lines, Map, Node, Scalar, Sequence

LinesOf = Callable[[Node], list[str]]

_FIRST = ("apiVersion", "kind", "metadata", "name")
"""The keys with which a mapping begins."""

_PLAIN = re.compile(r"[A-Za-z0-9_./*%$(][^{}\[\]&|!>\"'`#@\\\n]*")


def document(node: Node) -> str:
    """One object, which begins with `---`. An object that depends on a condition stands in its braces."""
    if isinstance(node, Choice):
        return "\n".join(_guarded(node, lambda part: ["---", *_map(part, 0)], 0)) + "\n"
    return "\n".join(["---", *_map(node, 0)]) + "\n"


def block(node: Node) -> str:
    """The lines of a mapping."""
    return "\n".join(_map(node, 0)) + "\n"


def scalar(value: object) -> str:
    """A scalar of YAML that Helm leaves as it is."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and ": " not in value and not value.endswith((":", " ")) and _reads_back(value):
        return value
    return _without_actions(json.dumps(value, ensure_ascii=False))


def _reads_back(value: str) -> bool:
    try:
        return yaml.safe_load(value) == value
    except yaml.YAMLError:
        return False


def _without_actions(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')


def expression(condition: Condition) -> str:
    """Conditions of which one must be true, as an argument of `if`."""
    if len(condition) == 1:
        return condition[0].removeprefix("(").removesuffix(")")
    return "or " + " ".join(condition)


def any_of(condition: Condition) -> str:
    """The same as an argument of `and` or `not`."""
    return condition[0] if len(condition) == 1 else f"({expression(condition)})"


def _guarded(node: Choice, lines_of: LinesOf, indent: int) -> list[str]:
    space = " " * indent
    if node.then is None and node.otherwise is not None:
        inner = any_of(node.condition)
        opposite = inner.removeprefix("(not ").removesuffix(")") if inner.startswith("(not ") else f"not {inner}"
        return [f"{space}{{{{- if {opposite} }}}}", *_part(node.otherwise, lines_of, indent), f"{space}{{{{- end }}}}"]
    lines = [f"{space}{{{{- if {expression(node.condition)} }}}}"]
    rest: Node | None = node
    first = True
    while isinstance(rest, Choice):
        if not first:
            lines.append(f"{space}{{{{- else if {expression(rest.condition)} }}}}")
        first = False
        lines += [] if rest.then is None else _part(rest.then, lines_of, indent)
        rest = rest.otherwise
    if rest is not None:
        lines += [f"{space}{{{{- else }}}}", *lines_of(rest)]
    return [*lines, f"{space}{{{{- end }}}}"]


def _part(node: Node, lines_of: LinesOf, indent: int) -> list[str]:
    return _guarded(node, lines_of, indent) if isinstance(node, Choice) else lines_of(node)


def _map(node: Node, indent: int) -> list[str]:
    if not isinstance(node, Map):
        raise TypeError(f"an object is a mapping, not {node}")
    first = [key for key in _FIRST if key in node.entries and not isinstance(node.entries[key], Choice)]
    keys = [*first, *(key for key in node.entries if key not in first)]
    parts = [(node.entries[key], partial(_entry, key, indent=indent)) for key in keys]
    return _parts(parts, indent)


def _parts(parts: list[tuple[Node, LinesOf]], indent: int) -> list[str]:
    """The lines of entries or items. Neighbours under one condition share its braces."""
    lines: list[str] = []
    for condition, group in groupby(parts, key=lambda part: _simple_condition(part[0])):
        inner = [(node.then if condition and isinstance(node, Choice) else node, of) for node, of in group]
        of_group = [line for node, of in inner if node for line in _part(node, of, indent)]
        if condition:
            of_group = [
                f"{' ' * indent}{{{{- if {expression(condition)} }}}}",
                *of_group,
                f"{' ' * indent}{{{{- end }}}}",
            ]
        lines += of_group
    return lines


def _simple_condition(node: Node) -> Condition | None:
    if isinstance(node, Choice) and node.then is not None and node.otherwise is None:
        return node.condition
    return None


def _entry(key: str, node: Node, indent: int) -> list[str]:
    space, name = " " * indent, scalar(key)
    match node:
        case Lines(write):
            return write(indent)
        case Action(text):
            return [f"{space}{name}: {text}"]
        case Scalar():
            return _value(f"{space}{name}: ", node, indent + 2)
        case Map(entries):
            return [f"{space}{name}:", *_map(node, indent + 2)] if entries else [f"{space}{name}: {{}}"]
        case Sequence(items):
            return [f"{space}{name}:", *_items(node, indent + 2)] if items else [f"{space}{name}: []"]
    raise TypeError(f"{key} has {node}")


def _value(start: str, node: Scalar, indent: int) -> list[str]:
    value = node.value
    if not isinstance(value, str) or "\n" not in value:
        return [start + (json.dumps(value, ensure_ascii=False) if node.actions else scalar(value))]
    lines = (line if node.actions else _without_actions(line) for line in value.splitlines())
    return [start + ("|" if value.endswith("\n") else "|-"), *((" " * indent + line).rstrip() for line in lines)]


def _items(node: Sequence, indent: int) -> list[str]:
    return _parts([(item, partial(_item, indent=indent)) for _, item in node.items], indent)


def _item(node: Node, indent: int) -> list[str]:
    space = " " * indent
    match node:
        case Lines(write):
            return write(indent)
        case Action(text):
            return [f"{space}- {text}"]
        case Scalar():
            return _value(f"{space}- ", node, indent + 2)
        case Map(entries):
            # The first entry stands behind the dash, so it must be there always.
            sure = {key: item for key, item in entries.items() if not isinstance(item, (Choice, Lines))}
            first, *rest = _map(Map({**sure, **entries}), indent + 2)
            return [f"{space}- {first.lstrip()}", *rest]
    raise TypeError(f"an item of a list is {node}")
