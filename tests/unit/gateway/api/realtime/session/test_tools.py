"""The tools of a Realtime session: updates, the stored form and back, and what is told to have no effect."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.session.tools import SessionTools, unused_tools
from gateway.api.realtime.session.update import SessionIn

_LOOK = {"type": "function", "name": "look", "description": "Looks", "parameters": {"b": {}, "a": [1]}}
_LIST = {"type": "function", "name": "list"}


def _tools(**fields: Any) -> SessionTools:
    return SessionTools().updated(SessionIn.model_validate(fields))


@pytest.mark.parametrize("choice", ["auto", "none", "required", {"type": "function", "name": "list"}])
@pytest.mark.parametrize("parallel", [None, False])
def test_stored_tools_come_back_as_they_were(choice: Any, parallel: bool | None) -> None:
    tools = _tools(tools=[_LOOK, _LIST], tool_choice=choice, parallel_tool_calls=parallel)
    assert SessionTools.of(tools.message(max_chars=1_000, where="session")) == tools
    assert tools.to_dict()["tools"] == [_LOOK, _LIST]


def test_choice_stays_until_the_tools_cannot_fulfil_it() -> None:
    named = _tools(tools=[_LOOK, _LIST], tool_choice={"type": "function", "name": "list"})
    kept = named.updated(SessionIn.model_validate({"tools": [_LIST]}))
    assert kept.choice == {"type": "function", "name": "list"}
    assert named.updated(SessionIn.model_validate({"tools": [_LOOK]})).choice == "auto"
    assert (
        _tools(tools=[_LOOK], tool_choice="required").updated(SessionIn.model_validate({"tools": []})).choice == "auto"
    )


def test_bad_choice_names_its_field() -> None:
    with pytest.raises(BadParameter) as raised:
        _tools(tools=[_LOOK], tool_choice={"type": "mcp", "server_label": "x"}).message(max_chars=99, where="response")
    assert raised.value.param == "response.tool_choice"


def test_what_has_no_effect_is_named() -> None:
    update = SessionIn.model_validate({"tools": [_LOOK, {"type": "mcp"}], "tool_choice": "required"})
    assert unused_tools(update, can_use_tools=True) == ["session.tools.1"]
    assert unused_tools(update, can_use_tools=False) == ["session.tools", "session.tool_choice"]
    assert unused_tools(SessionIn.model_validate({"tools": [], "tool_choice": "auto"}), can_use_tools=False) == []
