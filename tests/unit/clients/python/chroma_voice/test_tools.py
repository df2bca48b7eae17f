"""Tools of the Python client on the wire."""

from __future__ import annotations

import pytest

from chroma.v1 import dialogue_pb2, tools_pb2
from chroma_voice import Session, SessionSettings, Tool, ToolCall, ToolResult, Tools
from chroma_voice.events import events_from_proto


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", tools_pb2.TOOL_CHOICE_AUTO),
        ("none", tools_pb2.TOOL_CHOICE_NONE),
        ("required", tools_pb2.TOOL_CHOICE_REQUIRED),
    ],
)
def test_tools_become_their_message(choice: str, expected: int) -> None:
    tools = Tools([Tool("look", "Looks", {"b": "ü", "a": 1}), Tool("list")], choice, "look", parallel=False)  # pyright: ignore[reportArgumentType]
    config = SessionSettings(tools=tools).to_proto()
    assert config.tools == tools_pb2.Tools(
        tools=[
            tools_pb2.Tool(name="look", description="Looks", parameters='{"b": "ü", "a": 1}'),
            tools_pb2.Tool(name="list"),
        ],
        choice=expected,  # pyright: ignore[reportArgumentType]
        choice_name="look",
        parallel_calls=False,
    )


def test_settings_without_tools_change_none_and_empty_tools_take_them_away() -> None:
    assert not SessionSettings().to_proto().HasField("tools")
    assert SessionSettings(tools=Tools()).to_proto().HasField("tools")


def test_calls_and_results_are_read() -> None:
    call = tools_pb2.ToolCall(call_id="c1", name="look", arguments="{}")
    made = dialogue_pb2.ToolCallMade(turn_id="t1", call=call)
    assert events_from_proto(dialogue_pb2.ConverseResponse(tool_call=made)) == [ToolCall("t1", "c1", "look", "{}")]
    result = tools_pb2.ToolResult(call_id="c1", output="20")
    entry = dialogue_pb2.Entry(turn_id="t1", tool_calls=[call], tool_results=[result])
    (read,) = Session.from_proto(dialogue_pb2.Session(entries=[entry])).entries
    assert (read.tool_calls, read.tool_results) == ((ToolCall("t1", "c1", "look", "{}"),), (ToolResult("c1", "20"),))
