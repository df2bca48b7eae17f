"""The servicer over an engine, without a network: admission before the history, the deployment's system prompt."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chroma.v1.reasoner_pb2 import (
    PRIORITY_LOW,
    REPLY_SOURCE_GIVEN,
    ROLE_ASSISTANT,
    ROLE_TOOL,
    Message,
    Part,
    ThinkOpen,
    ThinkRequest,
    ThinkResponse,
    TokenIds,
)
from chroma.v1.tools_pb2 import TOOL_CHOICE_NONE, TOOL_CHOICE_REQUIRED, Tool, ToolCall, Tools
from services.common.errors import InvalidArgument, OutOfRange, ResourceExhausted
from services.reasoner.messages import TurnOpen
from services.reasoner.model.parts import Message as PastMessage
from services.reasoner.model.parts import TextPart, keys_of
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.tools import ToolCall as PastCall
from services.reasoner.runner import ThinkRunner
from services.reasoner.servicer import ReasonerServicer, hold_s_of
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.golden_cases import SPECIAL_IDS
from tests.support.think_service import assistant, commit, give, opening, say, user
from tests.support.thinking import ThinkEngine, new_runner, running
from tests.support.tool_template import WEATHER, tool_template

IM_END = SPECIAL_IDS["<|im_end|>"]
BAD_HISTORY = [Message(role=7, parts=[Part(text="Hi")])]  # pyright: ignore[reportArgumentType]


def called(arguments: str) -> Message:
    """A past reply that is a call."""
    return Message(role=ROLE_ASSISTANT, tool_calls=[ToolCall(call_id="c1", name="f", arguments=arguments)])


@pytest.mark.parametrize(
    ("asked_s", "held_s"),
    [(0.0, 0.06), (0.24, 0.24), (9.0, 1.0), (float("inf"), 1.0), (-1.0, 0.06), (float("nan"), 0.06)],
)
def test_the_caller_says_how_long_a_thought_may_be_held_within_bounds(asked_s: float, held_s: float) -> None:
    assert hold_s_of(ThinkOpen(max_hold_s=asked_s)) == held_s


def new_servicer(engine: ThinkEngine, template: ChatTemplate, system_prompt: str | None = None) -> ReasonerServicer:
    assert isinstance(engine.runner, ThinkRunner)
    return ReasonerServicer(
        engine,
        engine.runner,
        template,
        system_prompt=system_prompt,
        vocab_size=640,
        max_audio_s=6.0,
        checkpoint_fingerprint="golden",
    )


async def think(servicer: ReasonerServicer, requests: list[ThinkRequest]) -> list[ThinkResponse]:
    async def sent() -> AsyncIterator[ThinkRequest]:
        for request in requests:
            yield request

    return [response async for response in servicer.Think(sent(), None)]


async def test_full_reasoner_refuses_before_it_reads_the_history(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    async with running(new_runner(golden_thinker, tokenizer, slots=1)) as engine:
        servicer = new_servicer(engine, template)
        async with engine.open(TurnOpen()):
            with pytest.raises(ResourceExhausted):
                await think(servicer, [opening(history=BAD_HISTORY)])
        with pytest.raises(InvalidArgument, match="history message 0"):
            await think(servicer, [opening(history=BAD_HISTORY)])


async def test_a_pass_of_low_priority_has_slots_of_its_own(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    async with running(new_runner(golden_thinker, tokenizer, slots=2, low_priority_slots=1)) as engine:
        servicer = new_servicer(engine, template)
        async with engine.open(TurnOpen()):
            with pytest.raises(ResourceExhausted):
                await think(servicer, [opening(), say("Hello"), commit()])
            said = await think(servicer, [opening(priority=PRIORITY_LOW), say("Hello"), commit()])
            assert said[-1].HasField("done")


@pytest.mark.parametrize("sent", [None, "", "Talk like a pirate."])
async def test_system_prompt_of_the_deployment_stands_in_for_a_missing_one(
    sent: str | None, golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        replies: list[list[ThinkResponse]] = []
        for deployed, asked in (("You are Chroma.", sent), (None, "You are Chroma." if sent is None else sent)):
            requests = [opening(system_prompt=asked), say("Hello"), commit()]
            replies.append(await think(new_servicer(engine, template, deployed), requests))
    for left, right in zip(*replies, strict=True):
        assert (left.thought.token_id, left.thought.hidden) == (right.thought.token_id, right.thought.hidden)
    assert replies[0][-1].done.prompt_tokens == replies[1][-1].done.prompt_tokens > 0


@pytest.mark.parametrize(
    ("opened", "what"),
    [
        ({"system_prompt": "x" * 8_000_000}, "8000000 characters of text"),
        ({"history": [user("x" * 8_000_000)]}, "8000000 characters of text"),
        ({"history": [assistant([1] * 100_000)]}, "100000 token ids"),
        ({"tools": Tools(tools=[Tool(name="a", parameters="x" * 8_000_000)])}, "8000001 characters of text"),
        ({"history": [called("x" * 8_000_000)]}, "8000001 characters of text"),
        ({"history": [user("x"), assistant([1])] * 1000}, "4000 messages, parts and tool calls"),
    ],
)
async def test_a_conversation_beyond_all_positions_is_refused_before_it_is_tokenised(
    opened: dict[str, Any],
    what: str,
    golden_thinker: Thinker,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenised: list[str] = []
    monkeypatch.setattr(Tokenizer, "encode", lambda _, text: tokenised.append(text))
    runner = new_runner(golden_thinker, tokenizer)
    async with running(runner) as engine:
        with pytest.raises(OutOfRange, match=what):
            await think(new_servicer(engine, template), [opening(**opened), say("Hello"), commit()])
    assert tokenised == []
    assert runner.kv.free_slots == runner.kv.slots


async def test_a_given_reply_beyond_all_positions_is_refused_before_it_is_tokenised(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer)
    async with running(runner) as engine:
        with pytest.raises(OutOfRange, match="characters of text or more"):
            await think(
                new_servicer(engine, template),
                [opening(reply_source=REPLY_SOURCE_GIVEN), commit(), give("word " * 2_000), give("x" * 8_000_000)],
            )
    assert runner.kv.free_slots == runner.kv.slots


WEATHER_MESSAGE = Tool(
    name=WEATHER.name, description=WEATHER.description, parameters=json.dumps(WEATHER.parameters, ensure_ascii=False)
)


async def test_tools_of_a_turn_are_in_its_prompt_and_a_required_call_is_not_spoken(
    golden_thinker: Thinker, tmp_path: Path
) -> None:
    knowing = tool_template(tmp_path)
    history = [
        user("Hi"),
        called('{"a": 1}'),
        Message(role=ROLE_TOOL, call_id="c1", tool_name="f", parts=[Part(text="2")]),
    ]
    past = [
        PastMessage("user", (TextPart("Hi"),)),
        PastMessage("assistant", (), (PastCall("f", '{"a": 1}', "c1"),)),
        PastMessage("tool", (TextPart("2"),), call_id="c1", name="f"),
    ]
    async with running(new_runner(golden_thinker, knowing.tokenizer)) as engine:
        servicer = new_servicer(engine, knowing)

        async def prompt_tokens(**fields: Any) -> int:
            tools = Tools(tools=[WEATHER_MESSAGE], **fields)
            responses = await think(servicer, [opening(tools=tools, history=history, max_thoughts=4), commit()])
            assert responses[0].HasField("opened")
            called_here = fields.get("choice") == TOOL_CHOICE_REQUIRED
            thoughts = [response.thought for response in responses[1:-1]]
            assert {thought.call for thought in thoughts} == {called_here}
            assert [thought.HasField("hidden") for thought in thoughts[:2]] == [True, not called_here]
            if called_here:
                assert (thoughts[0].token_id, "".join(thought.text for thought in thoughts)) == (IM_END, "")
            return responses[-1].done.prompt_tokens

        with_tools = len(keys_of(ChatPrompt(knowing, None, past, tools=[WEATHER]).close()))
        without = len(keys_of(ChatPrompt(knowing, None, past).close()))
        assert await prompt_tokens() == with_tools
        assert await prompt_tokens(choice=TOOL_CHOICE_REQUIRED, choice_name="get_weather") == with_tools
        assert await prompt_tokens(choice=TOOL_CHOICE_NONE) == without


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"tools": Tools(tools=[Tool(name=str(n)) for n in range(129)])}, "at most 128 tools, got 129"),
        ({"tools": Tools(tools=[Tool(name="a"), Tool(name="a")])}, "different names"),
        ({"tools": Tools(tools=[Tool()])}, "different names"),
        ({"tools": Tools(tools=[Tool(name="a", parameters="[1]")])}, "tool 'a': expected a JSON object"),
        ({"tools": Tools(choice=7)}, "known choice, got number 7"),  # pyright: ignore[reportArgumentType]
        ({"tools": Tools(choice=TOOL_CHOICE_REQUIRED)}, "expected the tool that must be called"),
        (
            {"tools": Tools(tools=[Tool(name="a")], choice=TOOL_CHOICE_REQUIRED, choice_name="b")},
            "must be called, 'b', among them",
        ),
        ({"history": [Message(role=ROLE_TOOL)]}, "history message 0 has no parts"),
        ({"history": [Message(role=ROLE_TOOL, parts=[Part(token_ids=TokenIds(ids=[5]))])]}, "text as the result"),
    ],
)
async def test_bad_tools_and_results_are_refused(
    fields: dict[str, Any], what: str, golden_thinker: Thinker, tmp_path: Path
) -> None:
    knowing = tool_template(tmp_path)
    runner = new_runner(golden_thinker, knowing.tokenizer)
    async with running(runner) as engine:
        with pytest.raises(InvalidArgument, match=what):
            await think(new_servicer(engine, knowing), [opening(**fields), say("Hello"), commit()])
    assert runner.kv.free_slots == runner.kv.slots
