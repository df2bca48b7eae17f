"""The chart's objects while values are put into them, and the defaults that these places had."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from deploy.helm.components import Objects, condition
from deploy.helm.tree import (
    Action,
    Choice,
    Lines,
    Map,
    Node,
    Scalar,
    Sequence,
    always,
    apply,
    choose,
    map_texts,
    plain,
    replace,
    tree,
)
from deploy.helm.yaml_text import any_of


class Chart:
    """Objects by `Kind/name`, each a tree, and the default of every value that was put into them.

    A path names keys and items, such as `spec/template/spec/containers/codec/image`. Values have dotted names.
    """

    def __init__(self, base: Objects, components: list[tuple[str, Objects, Objects]]) -> None:
        self.objects: dict[str, Node] = {name: tree(manifest) for name, manifest in base.items()}
        self.defaults: dict[str, Any] = {}
        self.added_by: dict[str, str] = {}
        for component, before, after in components:
            self._add(component, before, after)

    def _add(self, component: str, before: Objects, after: Objects) -> None:
        when = (condition(component),)
        for name in [*before, *(name for name in after if name not in before)]:
            held = self.objects.get(name)
            if name not in after:
                self.objects[name] = choose(when, None, held)
            elif name not in before:
                self.added_by.setdefault(name, component)
                self.objects[name] = choose(when, tree(after[name]), held)
            elif held is not None:
                self.objects[name] = apply(held, before[name], after[name], when)

    def change(self, name: str, path: str, new: Callable[[Node], Node], branch: str = "") -> None:
        """Replace a node of an object (see `replace`). An error says which object and path were not there."""
        try:
            self.objects[name] = replace(self.objects[name], path, new, branch)
        except KeyError as error:
            raise KeyError(f"{name} has no {path}: {error}") from None

    def note(self, value: str, default: Any) -> None:
        """Record the default of a value. All places of one value must have the same."""
        if self.defaults.setdefault(value, default) != default:
            raise ValueError(f"{value} stands for {self.defaults[value]!r} and for {default!r}")

    def scalar(self, name: str, path: str, value: str, branch: str = "") -> None:
        """Put a value in the place of a text, number or truth value."""

        def new(node: Node) -> Node:
            default = plain(node)
            self.note(value, default)
            return Action(f"{{{{ .Values.{value}{' | quote' if isinstance(default, str) else ''} }}}}")

        self.change(name, path, new, branch)

    def number_in_text(self, name: str, path: str, value: str) -> None:
        """Put a number among the values in the place of a text that writes it."""

        def new(node: Node) -> Node:
            self.note(value, int(plain(node)))
            return Action(f"{{{{ .Values.{value} | quote }}}}")

        self.change(name, path, new)

    def structure(self, name: str, path: str, value: str) -> None:
        """Put a value in the place of a mapping or list. What components add stays beside it.

        What a component changes in a mapping changes a default: it counts unless the value says something else.
        """

        def new(node: Node) -> Node:
            self.note(value, plain(node))
            held = f".Values.{value}"
            match node:
                case Map(entries):
                    depending = {key: item for key, item in entries.items() if isinstance(item, Choice)}
                    changed = {key: item for key, item in depending.items() if always(item) is not None}
                    names = "".join(f' "{key}"' for key in changed)
                    spread = _spread(f"(omit {held}{names})" if changed else held)
                    kept = {key: _changed_default(held, key, item) for key, item in changed.items()}
                    return Map({"\0": spread, **depending, **kept})
                case Sequence(items):
                    return Sequence(
                        [("\0", _spread(held)), *((key, item) for key, item in items if isinstance(item, Choice))]
                    )
            raise TypeError(f"{name} {path} is no structure")

        self.change(name, path, new)

    def write(self, name: str, path: str, key: str, lines: Callable[[int], list[str]]) -> None:
        """Add an entry to a mapping, or an item to a list, that Helm writes."""

        def new(node: Node) -> Node:
            match node:
                case Map(entries):
                    entries[key] = Lines(lines)
                case Sequence(items):
                    items.append((key, Lines(lines)))
                case _:
                    raise TypeError(f"{name} {path} is no structure")
            return node

        self.change(name, path, new)

    def optional(self, name: str, path: str, key: str, value: str) -> None:
        """Add an entry that is there when the value is not empty."""
        self.write(name, path, key, lambda indent: given(f".Values.{value}", indent, key))

    def spread(self, name: str, path: str, value: str) -> None:
        """Add what the value holds to a mapping or list that has entries of its own."""
        self.write(name, path, f"\0{value}", lambda indent: given(f".Values.{value}", indent))

    def list_with(self, name: str, path: str, key: str, value: str) -> None:
        """Add the items of a value to a list that only some components make."""

        def new(node: Node) -> Node:
            if not isinstance(node, Map):
                raise TypeError(f"{name} {path} is no mapping")
            held = node.entries.get(key)
            if not isinstance(held, Choice):
                node.entries[key] = Lines(lambda indent: given(f".Values.{value}", indent, key))
                return node
            if not isinstance(held.then, Sequence) or held.otherwise is not None:
                raise TypeError(f"{name} {path} {key} is no list of one component")
            own = [(key, Choice(held.condition, item, None)) for key, item in held.then.items]
            more = ("\0", Lines(lambda indent: given(f".Values.{value}", indent)))
            node.entries[key] = Choice((*held.condition, f".Values.{value}"), Sequence([*own, more]), None)
            return node

        self.change(name, path, new)

    def texts(self, places: list[tuple[str, str, str]]) -> None:
        """Put actions into texts, in every branch of every object. A place is a regular expression, an action, and the
        name of the value whose default its first group is (or nothing).
        """
        used: set[str] = set()

        def change(text: str) -> Node:
            changed = text
            for pattern, action, value in places:
                if found := re.search(pattern, changed, re.MULTILINE):
                    used.add(pattern)
                    if value:
                        self.note(value, found[1])
                    start = found.start(1) - found.start()
                    end = found.end(1) - found.start()
                    changed = re.sub(
                        pattern,
                        lambda it, a=start, b=end, action=action: it[0][:a] + action + it[0][b:],
                        changed,
                        flags=re.MULTILINE,
                    )
            return Scalar(changed, actions=True) if changed != text else Scalar(text)

        for name, node in self.objects.items():
            self.objects[name] = map_texts(node, change)
        if missing := {pattern for pattern, _, _ in places} - used:
            raise ValueError(f"no text has {', '.join(sorted(missing))}")


def _spread(expression: str) -> Lines:
    return Lines(lambda indent: [f"{' ' * indent}{{{{- toYaml {expression} | nindent {indent} }}}}"])


def _changed_default(held: str, key: str, item: Choice) -> Lines:
    """The entry `key` of a value: that of a component if the value has its default, which the component changes."""
    got = f'(get {held} "{key}" | toString)'
    new, default = plain(item.then) if item.then else None, plain(item)
    if not isinstance(item.otherwise, Scalar) or not isinstance(new, str):
        raise TypeError(f"{held} has {key} that several components change")

    def write(indent: int) -> list[str]:
        space = " " * indent
        return [
            f'{space}{{{{- if and {any_of(item.condition)} (eq {got} "{default}") }}}}',
            f"{space}{key}: {new}",
            f"{space}{{{{- else }}}}",
            *(f"{space}{line}" for line in (f"{{{{- with {got} }}}}", f"{key}: {{{{ . | quote }}}}", "{{- end }}")),
            f"{space}{{{{- end }}}}",
        ]

    return Lines(write)


def given(expression: str, indent: int, key: str = "") -> list[str]:
    """Lines of an entry, or of the inside of one, that is there when the expression is not empty."""
    space, name = " " * indent, f"{key}:" if key else ""
    inside = indent + 2 if key else indent
    inner = [f"{space}{name}"] if key else []
    return [
        f"{space}{{{{- with {expression} }}}}",
        *inner,
        f"{' ' * inside}{{{{- toYaml . | nindent {inside} }}}}",
        f"{space}{{{{- end }}}}",
    ]
