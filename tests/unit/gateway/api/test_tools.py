"""Tools of clients become those of the conversation, or name the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from chroma.v1.tools_pb2 import TOOL_CHOICE_AUTO, TOOL_CHOICE_NONE, TOOL_CHOICE_REQUIRED, Tool
from gateway.api.errors import BadParameter
from gateway.api.tools import Function, tools_message

_LOOK = Function(name="look", description="ü", parameters={"b": {}, "a": [1.5]})
_LIST = Function(name="list")


def test_parameters_keep_their_order_and_their_letters() -> None:
    assert _LOOK.to_message() == Tool(name="look", description="ü", parameters='{"b": {}, "a": [1.5]}')
    assert not _LIST.to_message().HasField("description")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, (TOOL_CHOICE_AUTO, "", ["look", "list"])),
        ("none", (TOOL_CHOICE_NONE, "", ["look", "list"])),
        ({"type": "function", "name": "list"}, (TOOL_CHOICE_REQUIRED, "list", ["look", "list"])),
        ({"type": "function", "function": {"name": "list"}}, (TOOL_CHOICE_REQUIRED, "list", ["look", "list"])),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"name": "list"}]}, (TOOL_CHOICE_AUTO, "", ["list"])),
    ],
)
def test_choices_of_both_apis_are_understood(choice: Any, expected: tuple[int, str, list[str]]) -> None:
    tools = tools_message([_LOOK, _LIST], choice, None, max_chars=1_000)
    assert (tools.choice, tools.choice_name, [tool.name for tool in tools.tools]) == expected


@pytest.mark.parametrize(
    ("functions", "choice", "param"),
    [
        ([Function(name="")], None, "session.tools"),
        ([Function(name="a", parameters={"b": float("inf")})], None, "session.tools"),
        ([_LOOK], "required ", "session.tool_choice"),
        ([_LOOK], {"type": "function"}, "session.tool_choice"),
        ([_LOOK], {"type": "allowed_tools", "tools": [{"name": "x"}]}, "session.tool_choice"),
        ([_LOOK], {"type": "allowed_tools", "mode": 3, "tools": [{"name": "look"}]}, "session.tool_choice"),
        ([_LOOK], {"type": "allowed_tools", "allowed_tools": 3}, "session.tool_choice"),
        ([_LOOK], {"type": "allowed_tools", "tools": 3}, "session.tool_choice"),
        ([], "required", "session.tool_choice"),
    ],
)
def test_what_cannot_be_followed_is_refused(functions: list[Function], choice: Any, param: str) -> None:
    with pytest.raises(BadParameter) as raised:
        tools_message(functions, choice, None, max_chars=1_000, prefix="session.")
    assert raised.value.param == param
