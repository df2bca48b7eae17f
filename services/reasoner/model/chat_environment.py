"""The Jinja environment of chat templates: a sandbox in which a template cannot run for ever or fill the memory.

A template is a program of the checkpoint's author. Jinja's sandbox keeps it from the process, but it bounds only
`range`: two nested loops run for hours, and a text doubled forty times fills any memory. Here each render has a budget
of work. Every pass of a loop, every call and every character that is put together takes from it. An ordinary
conversation of a thousand messages takes a few hundredths of the budget.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from jinja2 import Template, nodes
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_WORK = 100_000_000
"""The work of one render, in characters."""

MAX_RENDER_S = 5.0
"""Longest time of one render. Ordinary ones take milliseconds; the work ends most others sooner."""

WORK_OF_STEP = 128
"""What a pass of a loop or a call takes, besides the characters that it puts together."""

MAX_NUMBER = 100_000
"""Largest number that a template may give to a function or a filter, such as a width. Jinja bounds `range` by it."""

MAX_TEMPLATE_CHARACTERS = 1_000_000

_REMOVED_FILTERS = ("filesizeformat", "format", "groupby", "pprint", "random", "urlize", "wordwrap", "xmlattr")
"""Filters that no chat template needs and whose work cannot be told from their arguments."""

_REMOVED_METHODS = ("expandtabs", "maketrans", "translate")

_LONG_PERCENT = re.compile(r"%[^a-zA-Z%]*(\d{5}|\*)")
_LONG_FORMAT = re.compile(r"\{[^}]*\d{5}")


class TooMuchWork(Exception):
    """The template does more than a render may do."""


class _Budget:
    """What is left of the work and the time of one render."""

    def __init__(self) -> None:
        self._left = MAX_WORK
        self._ends_s = time.monotonic() + MAX_RENDER_S

    def spend(self, work: int) -> None:
        """Take some work. Raises `TooMuchWork` when not as much is left."""
        self._left -= work
        if self._left < 0 or time.monotonic() > self._ends_s:
            raise TooMuchWork("it takes more steps, or puts together more text, than a conversation can need")


_budget: ContextVar[_Budget] = ContextVar("budget of the render under way")


@contextmanager
def _new_budget() -> Iterator[None]:
    token = _budget.set(_Budget())
    try:
        yield
    finally:
        _budget.reset(token)


def _spend(work: int) -> None:
    _budget.get().spend(work)


def _length(value: Any) -> int:
    """Characters of a text, or items of a list."""
    return len(value) if isinstance(value, str | bytes | list | tuple | dict) else 0


def _measured(value: Any) -> Any:
    """A value that was just made. Takes the work of its length."""
    _spend(_length(value))
    return value


def _put_out(value: Any) -> str:
    """What `{{ value }}` adds to the output."""
    return _measured(str(value))


def _passes(items: Iterable[Any], text: int) -> Iterator[Any]:
    """The items of a loop. Takes the work of each pass, whose fixed text has `text` characters."""
    for item in items:
        _spend(WORK_OF_STEP + text)
        yield item


def _joined(parts: list[Any]) -> str:
    """The text of `a ~ b ~ ...`."""
    texts = [str(part) for part in parts]
    _spend(WORK_OF_STEP + sum(map(len, texts)))
    return "".join(texts)


def _check_join(separator: str, items: Iterable[Any]) -> list[Any]:
    """The items to join, after the work of joining them was taken."""
    found = list(items)
    _spend(sum(len(item) if isinstance(item, str) else len(str(item)) for item in found) + len(separator) * len(found))
    return found


def _check_replace(text: str, old: str, new: str) -> None:
    _spend(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _check_numbers(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise TooMuchWork(f"it gives a number above {MAX_NUMBER} to a function")


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes its work from the budget."""
    context_arguments = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def filtered(*args: Any, **named: Any) -> Any:
        _spend(WORK_OF_STEP)
        values = list(args[context_arguments:])
        _check_numbers([*values, *named.values()])
        if name == "join" and values:
            separator = str(values[1] if len(values) > 1 else named.get("d", ""))
            values[0] = _check_join(separator, values[0])
        elif name == "replace" and len(values) > 2:
            _check_replace(*map(str, values[:3]))
        elif name in ("indent", "tojson"):
            place = {"indent": 1, "tojson": 2}[name]
            width = values[place] if len(values) > place else named.get("width", named.get("indent")) or 4
            _spend((width if isinstance(width, int) else len(str(width))) * WORK_OF_STEP * (1 + _lines(values[0])))
        return _measured(function(*args[:context_arguments], *values, **named))

    return filtered


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as transformers' templates expect it. Jinja's own filter sorts the keys and escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _lines(value: Any) -> int:
    """Lines of a text, or of the JSON of another value."""
    return value.count("\n") if isinstance(value, str) else _length(value)


def _own_text(node: nodes.Node) -> int:
    """Characters of the fixed text inside a node."""
    return sum(len(data.data) for data in node.find_all(nodes.TemplateData))


class _JoinedConcatenations(NodeTransformer):
    """Replaces each `a ~ b` by a filter that takes the work."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "_joined", [], [], None, None, lineno=node.lineno)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The environment that compiles and renders one chat template, with a budget for each."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, raise_exception: Callable[[str], None]) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], finalize=_put_out
        )
        self._text_of_calls = 0
        """Characters of the fixed text that a call may put out."""
        del self.globals["lipsum"]
        self.globals["raise_exception"] = raise_exception
        filters = {**self.filters, "tojson": _to_json}
        self.filters = {
            name: _bounded(name, function) for name, function in filters.items() if name not in _REMOVED_FILTERS
        }
        self.filters |= {"_passes": _passes, "_joined": _joined}

    def compiled(self, source: str) -> Template:
        """The template of a source text. Raises what Jinja raises, and `TooMuchWork`."""
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise TooMuchWork(f"it has {len(source)} characters, more than {MAX_TEMPLATE_CHARACTERS}")
        with _new_budget():
            return self.from_string(source)

    def rendered(self, template: Template, **values: Any) -> str:
        """The text of a compiled template. Raises whatever the template raises, and `TooMuchWork`."""
        with _new_budget():
            return template.render(**values)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether the template may use an attribute. Methods of text whose work cannot be told are refused."""
        return attr not in _REMOVED_METHODS and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's own safe form of `format` and `format_map`; None for another value."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None and _LONG_FORMAT.search(value.__self__):
            raise TooMuchWork("it formats to a width above 9999")
        return wrapped

    def call(self, context: Context, function: Any, /, *args: Any, **named: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Call a function for the template, within the budget."""
        _spend(WORK_OF_STEP + self._text_of_calls)
        _check_numbers([*args, *named.values()])
        if isinstance(function, LoopContext) and args:  # `loop(items)` of a recursive loop
            args = (_passes(args[0], self._text_of_calls), *args[1:])
        text = getattr(function, "__self__", None)
        if isinstance(text, str):
            args = self._check_method(text, str(getattr(function, "__name__", "")), args)
        return _measured(super().call(context, function, *args, **named))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute `left operator right`, within the budget."""
        work = _length(left) + _length(right)
        if operator == "*":
            times = [value for value in (left, right) if isinstance(value, int)]
            work *= max([1, *times])
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            work += left.bit_length() * max(0, right)
        elif operator == "%" and isinstance(left, str) and _LONG_PERCENT.search(left):
            raise TooMuchWork("it formats to a width above 9999")
        _spend(WORK_OF_STEP + work)
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse, and put the bounds into the tree: around what a loop runs over, and in the place of `~`."""
        tree = super()._parse(source, name, filename)
        called = (nodes.Macro, nodes.CallBlock, nodes.Block, nodes.For)
        self._text_of_calls = sum(_own_text(node) for node in tree.find_all(called) if _is_called(node))
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = nodes.Filter(
                loop.iter, "_passes", [nodes.Const(_own_text(loop))], [], None, None, lineno=loop.lineno
            )
        tree = _JoinedConcatenations().visit(tree)
        tree.set_environment(self)
        return tree

    def _check_method(self, text: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Take the work of a method of text. Returns its arguments."""
        if name == "join" and args:
            return (_check_join(text, args[0]), *args[1:])
        if name == "replace" and len(args) > 1:
            _check_replace(text, str(args[0]), str(args[1]))
        return args


def _is_called(node: nodes.Node) -> bool:
    """Whether a call can run the node's text: all but plain loops, whose passes are counted."""
    return not isinstance(node, nodes.For) or node.recursive
