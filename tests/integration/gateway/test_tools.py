"""Tools over gRPC and in chats: what the reasoner gets, calls that are not spoken, results in the history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import openai
import pytest
from grpc import aio

import chroma_voice
from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.reasoner_pb2 import ROLE_ASSISTANT, ROLE_TOOL, ROLE_USER
from chroma.v1.tools_pb2 import TOOL_CHOICE_AUTO, TOOL_CHOICE_NONE, TOOL_CHOICE_REQUIRED, Tool, ToolResult, Tools
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, new_voice

WEATHER = Tool(name="get_weather", description="The weather of a city", parameters='{"type":"object"}')
TOOLS = Tools(tools=[WEATHER])
CALL = ("get_weather", '{"city": "Bern"}')


@pytest.fixture
async def client(fakes: Fakes, start_gateway: StartGateway) -> AsyncIterator[Client]:
    fakes.reasoner.script.renders_tools = True
    await fakes.reasoner.restart()
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


def with_tools() -> pb.SessionConfig:
    return pb.SessionConfig(voice_id="ada", tools=TOOLS)


async def test_call_is_told_and_not_spoken_and_its_result_goes_back(client: Client, fakes: Fakes) -> None:
    script = fakes.reasoner.script
    script.reply, script.tool_calls = (), (CALL, ("list", "{}"))
    spoken = [len(service.script.opened) for service in (fakes.speech_gen, fakes.codec)]
    async with client.converse(new_session=with_tools()) as talk:
        await talk.send(text="Is it warm in Bern?")
        await talk.send(commit=pb.CommitTurn())
        answers = await talk.until("turn_done")
        assert [answer.WhichOneof("response") for answer in answers] == [
            "turn_started",
            "tool_call",
            "tool_call",
            "turn_done",
        ]
        first, second = (answer.tool_call for answer in answers[1:3])
        assert (first.call.name, first.call.arguments) == CALL
        assert first.turn_id == answers[0].turn_started.turn_id
        assert first.call.call_id != second.call.call_id
        done = answers[-1].turn_done
        assert (done.outcome, done.text, done.output_audio_s) == (pb.TURN_OUTCOME_COMPLETED, "", 0)
        assert done.output_tokens == 2
        assert done.recorded
        assert [len(service.script.opened) for service in (fakes.speech_gen, fakes.codec)] == spoken
        script.reply, script.tool_calls = ("Warm.",), ()
        await talk.send(tool_result=ToolResult(call_id=first.call.call_id, output="20"))
        await talk.send(commit=pb.CommitTurn(allow_empty=True))
        assert (await talk.done()).text == "Warm."
        assert script.heard == []
    opened = script.opened[-1]
    assert opened.tools == TOOLS
    user, reply, result = opened.history
    assert [message.role for message in opened.history] == [ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL]
    assert user.parts[0].text == "Is it warm in Bern?"
    assert list(reply.tool_calls) == [first.call, second.call]
    assert not reply.parts
    assert (result.call_id, result.tool_name, result.parts[0].text) == (first.call.call_id, "get_weather", "20")
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
        shown = (await http.get(f"/v1/sessions/{talk.session.session_id}")).json()["items"]
    assert shown[1]["tool_calls"] == [
        {"call_id": first.call.call_id, "name": CALL[0], "arguments": CALL[1], "output": "20"},
        {"call_id": second.call.call_id, "name": "list", "arguments": "{}", "output": None},
    ]
    assert "tool_calls" not in shown[0]
    session = (await client.dialogue.GetSession(pb.GetSessionRequest(session_id=talk.session.session_id))).session
    assert session.config.tools == TOOLS
    assert list(session.entries[1].tool_calls) == [first.call, second.call]
    assert list(session.entries[1].tool_results) == [ToolResult(call_id=first.call.call_id, output="20")]


async def test_text_before_a_call_is_spoken_to_its_end(client: Client, fakes: Fakes) -> None:
    fakes.reasoner.script.reply, fakes.reasoner.script.tool_calls = ("Let ", "me look."), (CALL,)
    async with client.converse(new_session=with_tools()) as talk:
        await talk.send(text="Is it warm in Bern?")
        await talk.send(commit=pb.CommitTurn())
        answers = await talk.until("turn_done")
        call = next(answer.tool_call.call for answer in answers if answer.HasField("tool_call"))
        done = answers[-1].turn_done
        assert (done.text, done.heard_text) == ("Let me look.", "Let me look.")
        assert done.output_audio_s == pytest.approx(6 * 0.08)  # two frames for each of two tokens and for their end
        await talk.send(tool_result=ToolResult(call_id=call.call_id, output="20"))
        await talk.ask("So?")
    reply = fakes.reasoner.script.opened[-1].history[1]
    assert list(reply.parts[0].token_ids.ids) == [100, 101]
    assert list(reply.tool_calls) == [call]


async def test_given_reply_ends_with_its_speech_also_with_tools(client: Client, fakes: Fakes) -> None:
    fakes.speech_gen.script.ends_at = 2
    async with client.converse(new_session=with_tools()) as talk:
        await talk.send(say=pb.Say(text="One. ", end=False))
        await talk.send(say=pb.Say(text="Two. ", end=False))
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_call_that_cannot_be_read_fails_its_turn_and_leaves_the_replica_in_use(
    client: Client, fakes: Fakes
) -> None:
    script = fakes.reasoner.script
    script.reply, script.unreadable_call = (), "no JSON object follows"
    async with client.converse(new_session=with_tools()) as talk:
        for _ in range(4):
            done = await talk.ask("Is it warm?")
            assert done.outcome == pb.TURN_OUTCOME_FAILED
            assert "tool call that cannot be read: no JSON object" in done.error.message
        script.reply, script.unreadable_call = ("Yes.",), ""
        assert (await talk.ask("Is it warm?")).text == "Yes."


async def test_tools_of_a_session_hold_until_they_are_replaced(client: Client, fakes: Fakes) -> None:
    async with client.converse(new_session=with_tools()) as talk:
        other = Tools(tools=[Tool(name="list")], choice=TOOL_CHOICE_REQUIRED, choice_name="list", parallel_calls=False)
        for change, expected in ((None, TOOLS), (pb.SessionConfig(tools=other), other)):
            if change is not None:
                await talk.send(update=change)
            await talk.ask("Hi")
            assert fakes.reasoner.script.opened[-1].tools == expected
        await talk.send(update=pb.SessionConfig(tools=Tools()))
        await talk.ask("Hi")
        assert not fakes.reasoner.script.opened[-1].HasField("tools")


async def test_result_of_an_unknown_call_ends_the_conversation(client: Client) -> None:
    async with client.converse(new_session=with_tools()) as talk:
        await talk.send(tool_result=ToolResult(call_id="call_x", output="20"))
        error = await talk.error()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no tool call 'call_x' is in the history" in (error.details() or "")


@pytest.mark.parametrize(
    ("tools", "what"),
    [
        (Tools(tools=[Tool(name="a b")]), "tools.0.name: expected 1 to 64"),
        (Tools(tools=[Tool(name="a"), Tool(name="a")]), "got 'a' twice"),
        (Tools(tools=[Tool(name=f"t{n}") for n in range(129)]), "at most 128 tools, got 129"),
        (Tools(tools=[Tool(name="a", parameters="{")]), "tools.0.parameters: expected a JSON object"),
        (Tools(tools=[Tool(name="a", parameters="[]")]), "a JSON object, got list"),
        (Tools(tools=[Tool(name="a", parameters='{"a":' * 65 + "1" + "}" * 65)]), "64 levels of nesting"),
        (Tools(tools=[Tool(name="a", description="x" * 40_000)]), "at most 32000 characters together"),
        (Tools(choice=TOOL_CHOICE_REQUIRED), "expected tools beside the choice"),
        (Tools(tools=[WEATHER], choice=TOOL_CHOICE_REQUIRED, choice_name="b"), "among the tools, got 'b'"),
    ],
)
async def test_bad_tools_are_refused(client: Client, tools: Tools, what: str) -> None:
    with pytest.raises(aio.AioRpcError, match="INVALID_ARGUMENT") as raised:
        await client.dialogue.CreateSession(
            pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada", tools=tools))
        )
    assert what in (raised.value.details() or "")


async def test_python_client_calls_its_tools_and_answers(client: Client, fakes: Fakes) -> None:
    script = fakes.reasoner.script
    script.reply, script.tool_calls = (), (CALL,)
    tool = chroma_voice.Tool("get_weather", "The weather of a city", {"type": "object"})
    async with (
        chroma_voice.Client(client.address) as voice,
        voice.conversation(voice="ada", tools=chroma_voice.Tools([tool], choice="required")) as talk,
    ):
        assert talk.renders_tools
        await talk.send_text("Is it warm in Bern?")
        await talk.commit()
        (call,) = await talk.reply().tool_calls()
        assert (call.name, call.arguments) == CALL
        script.reply, script.tool_calls = ("Warm.",), ()
        await talk.answer(call.call_id, "20")
        await talk.commit(allow_empty=True)
        assert [text async for text in talk.reply().text()] == ["Warm."]
        session = await voice.get_session(talk.session.session_id)
    assert session.entries[1].tool_calls == (call,)
    assert session.entries[1].tool_results == (chroma_voice.ToolResult(call.call_id, "20"),)
    sent = script.opened[0].tools
    assert (sent.tools[0].parameters, sent.choice) == ('{"type": "object"}', TOOL_CHOICE_REQUIRED)


async def test_model_without_tools_says_so(start_gateway: StartGateway, fakes: Fakes) -> None:
    async with start_gateway() as client, chroma_voice.Client(client.address) as voice:
        await client.voices.CreateVoice(new_voice("ada"))
        async with voice.conversation(voice="ada", tools=chroma_voice.Tools([chroma_voice.Tool("a")])) as talk:
            assert not talk.renders_tools
            await talk.send_text("Hi")
            await talk.commit()
            assert (await talk.reply().done()).outcome == "completed"


CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"b": 1, "a": {}}, "strict": True}}
ASKED = {"role": "user", "content": "Is it warm in Bern?"}
TOOL_CALLS = [{"id": "c1", "type": "function", "function": {"name": CALL[0], "arguments": CALL[1]}}]


def chat(client: Client) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://{client.http_address}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("text", ["", "Let me look."])
@pytest.mark.parametrize("spoken", [False, True])
async def test_chat_answers_with_tool_calls_whole_and_streamed(
    text: str, spoken: bool, client: Client, fakes: Fakes
) -> None:
    script = fakes.reasoner.script
    script.reply, script.tool_calls = (text,) if text else (), (CALL, ("list", "{}"))
    fields: Any = {"model": "chroma", "messages": [ASKED], "tools": [CHAT_TOOL], "parallel_tool_calls": True}
    if spoken:
        fields |= {"modalities": ["text", "audio"], "audio": {"voice": "ada", "format": "pcm16"}}
    async with chat(client) as ai:
        choice = (await ai.chat.completions.create(**fields)).choices[0]
        chunks = [chunk async for chunk in await ai.chat.completions.create(**fields, stream=True)]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == (None if spoken or not text else text)
    assert (choice.message.audio.transcript if choice.message.audio else "") == (text if spoken else "")
    calls = choice.message.tool_calls or []
    assert [(call.function.name, call.function.arguments) for call in calls] == [CALL, ("list", "{}")]
    assert len({call.id for call in calls}) == 2
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(delta.index, delta.function and delta.function.name) for delta in deltas] == [(0, CALL[0]), (1, "list")]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    sent = script.opened[-1].tools
    assert (sent.tools[0].parameters, sent.parallel_calls) == ('{"b": 1, "a": {}}', True)


async def test_chat_takes_calls_and_results_of_the_past(client: Client, fakes: Fakes) -> None:
    fakes.reasoner.script.reply = ("Warm.",)
    messages: Any = [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": TOOL_CALLS},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "20"}]},
    ]
    async with chat(client) as ai:
        answer = await ai.chat.completions.create(model="chroma", messages=messages, tools=[CHAT_TOOL])  # pyright: ignore
        assert answer.choices[0].message.content == "Warm."
        assert answer.choices[0].finish_reason == "stop"
        messages += [{"role": "assistant", "content": "Warm."}, {"role": "user", "content": "And Rome?"}]
        await ai.chat.completions.create(model="chroma", messages=messages)
    assert fakes.reasoner.script.heard == ["And Rome?"]
    user, reply, result, after = fakes.reasoner.script.opened[-1].history
    assert user.parts[0].text == ASKED["content"]
    assert not reply.parts
    assert [(call.call_id, call.name, call.arguments) for call in reply.tool_calls] == [("c1", *CALL)]
    assert (result.role, result.call_id, result.parts[0].text) == (ROLE_TOOL, "c1", "20")
    assert after.parts[0].text == "Warm."


NAMED = {"type": "function", "function": {"name": "get_weather"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
OTHER_TOOL = {"type": "function", "function": {"name": "list"}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", (TOOL_CHOICE_AUTO, "", 2)),
        ("none", (TOOL_CHOICE_NONE, "", 2)),
        ("required", (TOOL_CHOICE_REQUIRED, "", 2)),
        (NAMED, (TOOL_CHOICE_REQUIRED, "get_weather", 2)),
        (ALLOWED, (TOOL_CHOICE_REQUIRED, "", 1)),
    ],
)
async def test_choice_of_tools_goes_to_the_reasoner(
    choice: Any, expected: tuple[int, str, int], client: Client, fakes: Fakes
) -> None:
    async with chat(client) as ai:
        await ai.chat.completions.create(
            model="chroma",
            messages=[ASKED],  # pyright: ignore[reportArgumentType]
            tools=[CHAT_TOOL, OTHER_TOOL],  # pyright: ignore[reportArgumentType]
            tool_choice=choice,
        )
    sent = fakes.reasoner.script.opened[-1].tools
    assert (sent.choice, sent.choice_name, len(sent.tools)) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [CHAT_TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [CHAT_TOOL], "tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice"),
        ({"tools": [CHAT_TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
        ({"tools": [CHAT_TOOL, CHAT_TOOL]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
        ({"messages": [ASKED, {"role": "tool", "tool_call_id": "c1", "content": "20"}]}, "messages.1.tool_call_id"),
        ({"messages": [ASKED, {"role": "assistant", "tool_calls": TOOL_CALLS}]}, "messages"),
    ],
)
async def test_bad_tools_in_chats_are_named(fields: Any, param: str, client: Client) -> None:
    async with chat(client) as ai:
        with pytest.raises(openai.BadRequestError) as raised:
            await ai.chat.completions.create(**{"model": "chroma", "messages": [ASKED], **fields})
    assert raised.value.param == param


async def test_chat_with_tools_is_refused_where_the_model_knows_none(start_gateway: StartGateway, fakes: Fakes) -> None:
    messages: Any = [ASKED]
    async with start_gateway() as client, chat(client) as ai:
        with pytest.raises(openai.BadRequestError) as raised:
            await ai.chat.completions.create(model="chroma", messages=messages, tools=[CHAT_TOOL])  # pyright: ignore
        assert (raised.value.param, raised.value.code) == ("tools", "unsupported_value")
        await ai.chat.completions.create(model="chroma", messages=messages, tools=[CHAT_TOOL], tool_choice="none")  # pyright: ignore
