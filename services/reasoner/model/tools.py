"""Tools in the chat template: their schemas, and the form in which the model writes a call.

Whether a template knows tools, and how it writes a call, is found by rendering probes. Nothing here names a model. A
template knows tools when it renders a tool's name into the prompt and renders a call as a control token, or another
fixed text, before JSON with the name and the arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from services.common.errors import InvalidArgument
from services.runtime.checkpoint.tokenizer import Tokenizer

MAX_DEPTH = 64
"""Deepest nesting of a tool's schema and of a call's arguments."""

_NAME, _KEY, _VALUE, _RESULT = "probe_name", "probe_key", "probe_value", "probe_result"
_PROBE_CALL = {
    "type": "function",
    "id": "probe0000",
    "function": {"name": _NAME, "arguments": {_KEY: _VALUE}},
}
_JSON_START = re.compile(r"[{\[]")


@dataclass(frozen=True)
class Tool:
    """A function that the model may call. `parameters` is the JSON Schema of its arguments. None: not described."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None

    def schema(self) -> dict[str, Any]:
        """The tool as templates expect it."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        if self.parameters is not None:
            function["parameters"] = self.parameters
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool. `arguments` is JSON text. `call_id` is empty for a call that the model has just written."""

    name: str
    arguments: str
    call_id: str = ""

    def entry(self) -> dict[str, Any]:
        """The call as templates expect it. Arguments that are no JSON object stay text."""
        try:
            arguments = json_object(self.arguments, "arguments")
        except InvalidArgument:
            arguments = self.arguments
        return {"type": "function", "id": self.call_id, "function": {"name": self.name, "arguments": arguments}}


@dataclass(frozen=True)
class ToolUse:
    """How the reply may use tools.

    `name`, with `required`: the tool to call; empty: any. `parallel`: whether a reply may hold several calls.
    """

    choice: Literal["auto", "none", "required"] = "auto"
    name: str = ""
    parallel: bool = True


class UnreadableCall(Exception):
    """The model wrote a call that is no call."""


class ToolFormat:
    """How one template writes calls.

    `opening` is what a call begins with. `token_id` is its control token; None when it is ordinary text.
    `result_is_text`: whether the content of a result is a text, not a list of parts.
    """

    def __init__(self, tokenizer: Tokenizer, call: str, *, result_is_text: bool) -> None:
        """`call` is a rendered probe call, from the start of the reply. Raises `UnreadableCall` for an unknown form."""
        start = _start_of_call(call)
        before = list(tokenizer.split_special(call[:start]))
        controls = [part for part in before if isinstance(part, int)]
        self.token_id = controls[-1] if controls else None
        self.result_is_text = result_is_text
        spelling = {token_id: text for text, token_id in tokenizer.special_ids.items()}
        tail = call[:start].lstrip() if self.token_id is None else spelling[self.token_id] + str(before[-1])
        self.opening = tail.strip() if self.token_id is None else spelling[self.token_id]
        if not self.opening:
            raise UnreadableCall("a call begins with nothing that tells it from text")
        rest = call[start:]
        self._to_name = tail + rest[: rest.index(_NAME)]
        after_name = rest[rest.index(_NAME) + len(_NAME) :]
        self._to_arguments = after_name[: after_name.index("{")].rstrip() if _KEY in after_name else None
        """The text between the name and the arguments. None: the arguments come before the name."""
        self._tokenizer = tokenizer
        entry = _only_entry(json.JSONDecoder().raw_decode(rest)[0])
        self._name_key = next(key for key, value in entry.items() if value == _NAME)
        self._arguments_key = next(key for key in entry if key != self._name_key and _KEY in json.dumps(entry[key]))

    def begins(self, text: str) -> bool | None:
        """Whether the start of a reply begins a call. None: more of it must come."""
        text = text.lstrip()
        if text.startswith(self.opening):
            return True
        return None if self.opening.startswith(text) else False

    def prescribed_ids(self, name: str) -> list[int]:
        """The first ids of a reply that must be a call, of the tool `name` unless it is empty."""
        text = self._to_name
        if name and self._to_arguments is not None:
            text += json.dumps(name, ensure_ascii=False)[1:-1] + self._to_arguments
        ids: list[int] = []
        for part in self._tokenizer.split_special(text):
            ids += self._tokenizer.encode(part) if isinstance(part, str) else [part]
        return ids

    def has_call(self, text: str) -> bool:
        """Whether the text of a reply holds a complete call."""
        return next(self._values(text, must_end=False), None) is not None

    def calls_in(self, text: str, *, is_cut: bool) -> list[ToolCall]:
        """The calls in the text of a reply, in order. `is_cut`: the reply ended at a limit, and its last call may be
        incomplete; it is left out.

        Raises `UnreadableCall` for text without a call, and for one that is not JSON with a name and arguments.
        """
        calls = [self._call(entry) for value in self._values(text, must_end=not is_cut) for entry in _entries(value)]
        if not calls and not is_cut:
            raise UnreadableCall("no JSON object follows the start of the call")
        return calls

    def _values(self, text: str, *, must_end: bool) -> Iterator[Any]:
        """The JSON values in the text. An incomplete one ends the iteration, or raises if it `must_end`."""
        decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        at = len(self.opening)
        while (found := _JSON_START.search(text, at)) is not None:
            try:
                value, at = decoder.raw_decode(text, found.start())
            except (ValueError, RecursionError) as error:
                if must_end:
                    raise UnreadableCall(f"its JSON cannot be read: {str(error)[:100]}") from error
                return
            yield value

    def _call(self, entry: Any) -> ToolCall:
        name = entry.get(self._name_key) if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or not _is_utf8(name):
            raise UnreadableCall(f"expected an object with a `{self._name_key}`")
        arguments = entry.get(self._arguments_key, {})
        try:
            if isinstance(arguments, str):
                arguments = json_object(arguments, self._arguments_key)
            text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        except (InvalidArgument, ValueError, RecursionError) as error:
            raise UnreadableCall(f"its `{self._arguments_key}` cannot be read") from error
        if not isinstance(arguments, dict):
            raise UnreadableCall(f"expected an object as `{self._arguments_key}`")
        return ToolCall(name, text if _is_utf8(text) else json.dumps(arguments))


def find_format(render: Callable[..., str], tokenizer: Tokenizer) -> ToolFormat | None:
    """The form of calls in a template. None: the template does not know tools, or writes calls in another way.

    `render` takes messages and keywords, and raises anything.
    """
    user = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    calling = {"role": "assistant", "content": "", "tool_calls": [_PROBE_CALL]}
    tools = [Tool(_NAME, "probe", {"type": "object", "properties": {_KEY: {"type": "string"}}}).schema()]
    try:
        before = render([user], tools=tools, add_generation_prompt=True)
        if _NAME not in before:
            return None
        whole = render([user, calling], tools=tools)
        result: dict[str, Any] = {"role": "tool", "name": _NAME, "tool_call_id": "probe0000", "content": _RESULT}
        is_text = _RESULT in render([user, calling, result], tools=tools)
        if not is_text:
            result["content"] = [{"type": "text", "text": _RESULT}]
            if _RESULT not in render([user, calling, result], tools=tools):
                return None
        if not whole.startswith(before):
            return None
        return ToolFormat(tokenizer, whole[len(before) :], result_is_text=is_text)
    except Exception:  # a template is a program of the checkpoint's author: it can raise anything
        return None


def json_object(text: str, what: str) -> dict[str, Any]:
    """The object that a JSON text holds. Raises InvalidArgument for anything else, and for one nested too deeply."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what}: expected a JSON object, got text that is not JSON") from error
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what}: expected a JSON object, got {type(value).__name__}")
    if _depth(value) > MAX_DEPTH:
        raise InvalidArgument(f"{what}: expected at most {MAX_DEPTH} levels of nesting, got more")
    return value


def _depth(value: Any) -> int:
    """Levels of nesting, counted up to one more than `MAX_DEPTH`."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def _start_of_call(text: str) -> int:
    """Where the JSON of the probe call begins. Raises `UnreadableCall` when there is none."""
    for found in _JSON_START.finditer(text):
        try:
            value = json.JSONDecoder().raw_decode(text, found.start())[0]
        except ValueError:
            continue
        if _only_entry(value):
            return found.start()
    raise UnreadableCall("a call is not written as JSON")


def _only_entry(value: Any) -> dict[str, Any]:
    """The object of the probe call: with its name, and with its arguments. Empty: it is something else."""
    entries = [entry for entry in _entries(value) if isinstance(entry, dict)]
    if len(entries) == 1 and _NAME in entries[0].values() and _KEY in json.dumps(entries[0]):
        return entries[0]
    return {}


def _entries(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _is_utf8(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which a JSON escape can spell."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
