"""Who shares cached positions: the sessions of one tenant, nobody else; and what is forgotten leaves no value."""

from __future__ import annotations

import asyncio

import pytest

from services.reasoner.messages import Audio, Commit, Done, Text, Thought, TurnOpen
from services.reasoner.model.parts import AudioPart, Message, TokenPart
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.cached_conversations import (
    Conversation,
    assert_as_cold,
    ids,
    inputs,
    runner_of,
    whole_pages,
)
from tests.support.thinking import Turn, feed_all, ids_of, opened, running, take_turn, tone


async def test_sessions_of_a_tenant_share_the_pages_of_their_system_prompt_while_they_run(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    talks = [Conversation(template, "You keep a lighthouse. " * 6) for _ in range(4)]
    shared_rows = len(ids_of(ChatPrompt(template, talks[0].system_prompt, []).opening())) - 1
    async with running(runner) as engine:
        await take_turn(engine, talks[0].open(), inputs("First?"))
        pages = runner.kv.free_pages
        streams = [opened(engine, talk.open()) for talk in talks]
        for stream in streams:
            await (await stream.__aenter__()).feed(Text("And?"))
        while runner.counters.cached_tokens < len(talks) * shared_rows:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert pages - runner.kv.free_pages <= len(talks)
        for stream in streams:
            await stream.__aexit__(None, None, None)
        for number, talk in enumerate(talks):
            said = f"And {number}?"
            thoughts, done = await take_turn(engine, talk.open(), inputs(said))
            assert_as_cold(golden_thinker, talk.pieces(said), thoughts)
            assert done.usage.cached_tokens >= whole_pages(shared_rows)


async def test_turn_outside_a_session_keeps_nothing_and_takes_what_its_tenant_has(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    talk = Conversation(template, "You keep a lighthouse.")
    async with running(runner) as engine:
        _, first = await take_turn(engine, talk.open(keep_prefix=False), inputs("What?"))
        assert (first.usage.cached_tokens, runner.prefixes.pages) == (0, 0)
        await take_turn(engine, talk.open(), inputs("What?"))
        kept = runner.prefixes.pages
        thoughts, third = await take_turn(engine, talk.open(keep_prefix=False), inputs("What now?"))
    assert_as_cold(golden_thinker, talk.pieces("What now?"), thoughts)
    assert third.usage.cached_tokens > 0
    assert runner.prefixes.pages == kept
    assert runner.kv.free_pages == runner.kv.pages - kept


SECRET = "The code of the northern door is 7391, and that of the southern door is 2846. Tell it to no one."


@pytest.mark.parametrize("scope", ["another", ""])
async def test_a_guess_at_another_tenants_prompt_finds_what_any_other_prompt_finds(
    scope: str, golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    async with running(runner) as engine:
        await take_turn(engine, Conversation(template, SECRET).open(), inputs("hello"))
        found: list[int] = []
        for guess in (SECRET, SECRET[:-1], SECRET[:45], SECRET[:34], "Nothing that was ever said before, to no one."):
            talk = Conversation(template, guess, scope=scope, session_id="")
            _, done = await take_turn(engine, talk.open(keep_prefix=False), inputs("hello"))
            found.append(runner.counters.cached_tokens)
            assert done.usage.cached_tokens == 0
    assert found == [0] * len(found)


async def test_the_deployments_own_prompt_is_shared_by_all_tenants_and_cannot_be_guessed_by_them(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    own = Conversation(template, SECRET, system_prompt_is_common=True, scope="one")
    others = Conversation(template, SECRET, system_prompt_is_common=True, scope="two")
    guessed = [Conversation(template, SECRET, scope=scope) for scope in ("one", "two")]
    common = whole_pages(ChatPrompt(template, SECRET, [], system_prompt_is_common=True).common_positions)
    assert common > 0
    async with running(runner_of(golden_thinker, tokenizer)) as engine:
        await take_turn(engine, own.open(), inputs("My name is Ada, and I live in the north."))
        thoughts, done = await take_turn(engine, others.open(), inputs("My name is Ada, and I live in the north."))
        assert_as_cold(golden_thinker, others.pieces("My name is Ada, and I live in the north."), thoughts)
        assert done.usage.cached_tokens == common
        for guess in guessed:
            _, done = await take_turn(engine, guess.open(), inputs("My name is Ada, and I live in the north."))
            assert done.usage.cached_tokens == 0


async def test_common_positions_are_those_of_the_deployments_text_and_the_same_in_every_turn(
    tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    past = [Message("user", (AudioPart(tone(0.5)),)), Message("assistant", (TokenPart((5, 6)),))]
    for prompt in (None, "You are Chroma."):
        empty = ChatPrompt(template, prompt, [], system_prompt_is_common=True)
        later = ChatPrompt(template, prompt, past, system_prompt_is_common=True)
        assert empty.common_positions == later.common_positions
        count = empty.common_positions
        assert ids_of(empty.opening())[:count] == ids_of(later.opening())[:count]
    said = ChatPrompt(template, "You are Chroma.", past)
    assert said.common_positions < count
    assert said.common_positions == ChatPrompt(template, "Say nothing", []).common_positions


async def test_a_forgotten_session_leaves_no_page_and_no_value_behind(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    talk, other = Conversation(template, SECRET), Conversation(template, "You sail.", session_id="other")
    async with running(runner) as engine:
        thoughts, _ = await take_turn(engine, talk.open(), inputs(tone(1.0)))
        talk.add(tone(1.0), ids(thoughts))
        await take_turn(engine, talk.open(), inputs("And then?"))
        await engine.call(lambda: runner.forget_session("session"))
        assert runner.prefixes.pages == 0
        assert not runner.kv.k.any()
        assert not runner.kv.v.any()
        await engine.call(lambda: runner.forget_session("never seen"))
        await take_turn(engine, talk.open(), inputs("I am late."))
        assert runner.prefixes.pages == 0, "a late turn of a forgotten session keeps nothing"
        await take_turn(engine, other.open(), inputs("Where to?"))
        assert runner.prefixes.pages > 0


async def test_a_running_turn_of_a_forgotten_session_goes_on_and_leaves_nothing(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    talk = Conversation(template, SECRET)
    async with running(runner) as engine:
        async with opened(engine, talk.open()) as stream:
            await stream.feed(Audio(tone(3.0)))
            while runner.prefixes.pages < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await engine.call(lambda: runner.forget_session("session"))
            assert runner.prefixes.pages == 0
            await feed_all(stream, [Commit()])
            *thoughts, done = [output async for output in stream]
        assert isinstance(done, Done)
        assert_as_cold(
            golden_thinker, talk.pieces(tone(3.0)), [thought for thought in thoughts if isinstance(thought, Thought)]
        )
    assert runner.prefixes.pages == 0
    assert not runner.kv.k.any()


async def test_a_forgotten_scope_loses_all_its_sessions_and_no_other(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    talks = {name: Conversation(template, SECRET, session_id=name, scope=name[:3]) for name in ("one1", "one2", "two1")}
    async with running(runner) as engine:
        for talk in talks.values():
            await take_turn(engine, talk.open(), inputs("hello"))
        await engine.call(lambda: runner.forget_scope("one"))
        _, gone = await take_turn(engine, talks["one2"].open(), inputs("hello"))
        _, kept = await take_turn(engine, talks["two1"].open(), inputs("hello"))
    assert gone.usage.cached_tokens == 0
    assert kept.usage.cached_tokens > 0


async def test_a_turn_that_keeps_nothing_leaves_no_value_behind(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    prompt = ChatPrompt(template, SECRET, [])
    async with running(runner) as engine:
        await take_turn(engine, Turn(TurnOpen(max_thoughts=4, erase_at_end=True, scope="tenant"), prompt), inputs("hi"))
    assert runner.prefixes.pages == 0
    assert not runner.kv.k.any()
