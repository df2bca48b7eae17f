"""Tools over the Realtime API, with OpenAI's own Python client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chroma.v1.reasoner_pb2 import ROLE_ASSISTANT, ROLE_TOOL, ROLE_USER
from chroma.v1.tools_pb2 import TOOL_CHOICE_NONE, TOOL_CHOICE_REQUIRED
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, new_voice
from tests.support.realtime_client import MANUAL, Talk, openai_of

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = ("get_weather", '{"city": "Bern"}')


@pytest.fixture
async def client(fakes: Fakes, start_gateway: StartGateway) -> AsyncIterator[Client]:
    fakes.reasoner.script.renders_tools = True
    await fakes.reasoner.restart()
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


@pytest.fixture
async def talk(client: Client) -> AsyncIterator[Talk]:
    """A connection without turn detection and with the tool `WEATHER`."""
    async with openai_of(client) as openai, openai.realtime.connect(model="chroma") as connection:
        talk = Talk(connection)
        await talk.send("session.update", session={**MANUAL, "tools": [WEATHER]})
        await talk.until("session.updated")
        yield talk


async def add(talk: Talk, **item: Any) -> Any:
    """Add an item; the item as it was announced."""
    await talk.send("conversation.item.create", item=item)
    return (await talk.until("conversation.item.done"))[-1].item


async def test_session_shows_its_tools(talk: Talk) -> None:
    session = talk.seen[-1].session
    assert [tool.to_dict() for tool in session.tools] == [WEATHER]
    assert session.tool_choice == "auto"
    named = {"type": "function", "name": "get_weather"}
    await talk.send("session.update", session={"type": "realtime", "tool_choice": named, "parallel_tool_calls": False})
    session = (await talk.until("session.updated"))[-1].session
    assert session.tool_choice.to_dict() == named
    await talk.send("session.update", session={"type": "realtime", "tools": []})
    session = (await talk.until("session.updated"))[-1].session
    assert (session.tools, session.tool_choice) == ([], "auto")


async def test_tools_of_another_kind_are_named_and_the_rest_applies(talk: Talk, fakes: Fakes) -> None:
    server = {"type": "mcp", "server_label": "deep", "server_url": "https://example.org"}
    await talk.send("session.update", session={"type": "realtime", "instructions": "Hi", "tools": [server, WEATHER]})
    updated = (await talk.until("session.updated"))[-1]
    assert (updated.ignored, updated.session.instructions) == (["session.tools.0"], "Hi")
    assert [tool.name for tool in updated.session.tools] == ["get_weather"]


async def test_call_comes_as_an_item_and_its_output_makes_the_model_speak(talk: Talk, fakes: Fakes) -> None:
    script = fakes.reasoner.script
    script.reply, script.tool_calls = (), (CALL,)
    events = [event for event in await talk.say("Is it warm in Bern?") if event.type.startswith("response.")]
    assert [event.type for event in events] == [
        "response.created",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.done",
    ]
    _, added, delta, whole, item_done, done = events
    assert (added.item.type, added.item.status, added.item.arguments) == ("function_call", "in_progress", "")
    assert (delta.delta, whole.arguments, whole.name) == (CALL[1], CALL[1], CALL[0])
    assert added.item.id == delta.item_id == whole.item_id
    call = item_done.item
    assert (call.name, call.arguments, call.status) == (*CALL, "completed")
    assert [item.to_dict() for item in done.response.output] == [call.to_dict()]
    assert done.response.status == "completed"
    script.reply, script.tool_calls = ("Warm.",), ()
    result = await add(talk, type="function_call_output", call_id=call.call_id, output="20")
    assert (result.type, result.call_id, result.output) == ("function_call_output", call.call_id, "20")
    await talk.send("response.create")
    done = (await talk.until("response.done"))[-1]
    assert done.response.output[0].content[0].transcript == "Warm."
    assert "response.output_audio.delta" in [event.type for event in talk.seen]
    user, reply, output = script.opened[-1].history
    assert (user.role, reply.role, output.role) == (ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL)
    assert (reply.tool_calls[0].call_id, output.call_id, output.parts[0].text) == (call.call_id, call.call_id, "20")
    assert script.heard == []


async def test_call_after_text_is_the_second_item(talk: Talk, fakes: Fakes) -> None:
    fakes.reasoner.script.tool_calls = (CALL,)
    events = await talk.say("Is it warm in Bern?")
    added = {event.output_index: event.item.type for event in events if event.type == "response.output_item.added"}
    assert added == {0: "message", 1: "function_call"}
    assert [item.type for item in events[-1].response.output] == ["message", "function_call"]


async def test_calls_of_the_past_can_be_added_and_deleted(talk: Talk, fakes: Fakes) -> None:
    await talk.add("user", {"type": "input_text", "text": "Is it warm?"})
    call = await add(talk, type="function_call", call_id="c1", name=CALL[0], arguments=CALL[1])
    assert (call.type, call.call_id, call.name, call.arguments) == ("function_call", "c1", *CALL)
    await add(talk, type="function_call", call_id="c2", name="list", arguments="{}")
    output = await add(talk, type="function_call_output", call_id="c1", output="20")
    await talk.send("conversation.item.delete", item_id=output.id)
    await talk.until("conversation.item.deleted")
    await talk.send("response.create")
    await talk.until("response.done")
    user, reply = fakes.reasoner.script.opened[-1].history
    assert user.parts[0].text == "Is it warm?"
    assert [made.call_id for made in reply.tool_calls] == ["c1", "c2"]
    await talk.send("conversation.item.delete", item_id=call.id)
    await talk.until("conversation.item.deleted")
    await talk.say("So?")
    assert [made.call_id for made in fakes.reasoner.script.opened[-1].history[1].tool_calls] == ["c2"]


async def test_output_of_an_unknown_call_is_an_error_and_the_connection_goes_on(talk: Talk) -> None:
    item = {"type": "function_call_output", "call_id": "c9", "output": "20"}
    await talk.send("conversation.item.create", item=item, event_id="e1")
    error = await talk.error()
    assert (error.param, error.code, error.event_id) == ("item.call_id", "invalid_tool_call_id", "e1")
    assert (await talk.say("Hi"))[-1].response.status == "completed"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tool_choice": "none"}, (TOOL_CHOICE_NONE, "", ["get_weather"])),
        ({"tool_choice": "required"}, (TOOL_CHOICE_REQUIRED, "", ["get_weather"])),
        (
            {"tools": [{"type": "function", "name": "list"}], "tool_choice": {"type": "function", "name": "list"}},
            (TOOL_CHOICE_REQUIRED, "list", ["list"]),
        ),
    ],
)
async def test_response_has_tools_of_its_own(
    settings: dict[str, Any], expected: tuple[int, str, list[str]], talk: Talk, fakes: Fakes
) -> None:
    await talk.add("user", {"type": "input_text", "text": "Hi"})
    await talk.send("response.create", response=settings)
    await talk.until("response.done")
    sent = fakes.reasoner.script.opened[-1].tools
    assert (sent.choice, sent.choice_name, [tool.name for tool in sent.tools]) == expected
    await talk.say("Hi")
    assert not fakes.reasoner.script.opened[-1].tools.choice_name


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"tools": [{**WEATHER, "name": "get weather"}]}, "session.tools"),
        ({"tools": [WEATHER, WEATHER]}, "session.tools"),
        ({"tools": [{**WEATHER, "parameters": [1]}]}, "session.tools.0.parameters"),
        ({"tool_choice": {"type": "function", "name": "list"}}, "session.tool_choice"),
        ({"tool_choice": "sometimes"}, "session.tool_choice"),
    ],
)
async def test_bad_tools_are_an_error_event(settings: dict[str, Any], param: str, talk: Talk) -> None:
    await talk.send("session.update", session={"type": "realtime", **settings})
    assert (await talk.error()).param == param


async def test_session_that_is_continued_shows_its_tools(client: Client, talk: Talk) -> None:
    session_id = talk.seen[-1].session.id
    query = {"session_id": session_id}
    async with (
        openai_of(client) as openai,
        openai.realtime.connect(model="chroma", extra_query=query) as connection,
    ):
        created = await Talk(connection).next()
    assert [tool.name for tool in created.session.tools] == ["get_weather"]


async def test_model_without_tools_shows_none_and_everything_else_applies(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with openai_of(client) as openai, openai.realtime.connect(model="chroma") as connection:
            talk = Talk(connection)
            settings = {**MANUAL, "instructions": "Be kind.", "tools": [WEATHER], "tool_choice": "required"}
            await talk.send("session.update", session=settings)
            updated = (await talk.until("session.updated"))[-1]
            assert (updated.session.tools, updated.session.tool_choice) == ([], "auto")
            assert updated.session.instructions == "Be kind."
            assert updated.ignored == ["session.tools", "session.tool_choice"]
            assert (await talk.say("Hi"))[-1].response.status == "completed"
    assert not fakes.reasoner.script.opened[-1].HasField("tools")
