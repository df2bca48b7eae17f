"""Tool calls that come out of the engine: the tokens of each reply are given in the place of the model's choice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from services.reasoner.messages import Commit, Done, Text, Thought, TurnOpen
from services.reasoner.model.parts import Message, TextPart
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.tools import ToolCall, ToolUse
from services.reasoner.request import ThinkStream
from services.reasoner.runner import Outputs, ThinkRunner
from tests.support.golden_cases import SPECIAL_IDS
from tests.support.thinking import Turn, assert_all_freed, new_runner, running, take_turn
from tests.support.tool_template import TOOL_CALL, TOOL_TEMPLATE, WEATHER, call_ids, tool_template

IM_END = SPECIAL_IDS["<|im_end|>"]


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return tool_template(tmp_path_factory.mktemp("tools"))


class Scripted(ThinkRunner):
    """A runner whose model chooses the tokens of `script`, then im_end."""

    script: Sequence[int] = ()

    def _conclude(self, streams: list[ThinkStream], chosen: list[int], hidden: torch.Tensor) -> Outputs:
        said = [len(stream.state.token_ids) for stream in streams]
        return super()._conclude(streams, [[*self.script, IM_END][min(n, len(self.script))] for n in said], hidden)


async def reply(
    thinker: Thinker,
    template: ChatTemplate,
    script: Sequence[int],
    use: ToolUse | None = None,
    *,
    max_thoughts: int | None = None,
) -> tuple[list[Thought], Done]:
    """The reply whose tokens the model chooses from `script`, in a turn with the tool `WEATHER`."""
    use = use or ToolUse()
    runner = new_runner(thinker, template.tokenizer, max_thoughts=256, max_positions=1_024)
    runner.__class__ = type("ScriptedRunner", (Scripted, type(runner)), {"script": script})
    opening = TurnOpen(max_thoughts=max_thoughts, tool_format=template.tools, tool_use=use)
    tools = [] if use.choice == "none" else [WEATHER]
    async with running(runner) as engine:
        turn = Turn(opening, ChatPrompt(template, None, [], tools=tools))
        result = await take_turn(engine, turn, [Text("Is it warm?"), Commit()])
    assert_all_freed(runner)
    return result


def text_of(thoughts: list[Thought]) -> str:
    return "".join(thought.text for thought in thoughts)


async def test_reply_that_begins_with_a_call_has_no_text(golden_thinker: Thinker, knowing: ChatTemplate) -> None:
    script = call_ids(knowing.tokenizer, "get_weather", {"city": "Bern"})
    thoughts, done = await reply(golden_thinker, knowing, script)
    assert all(thought.is_call for thought in thoughts)
    assert text_of(thoughts) == ""
    assert len(thoughts) == len(script) + 1
    assert thoughts[0].token_id == IM_END
    assert [thought.is_spoken for thought in thoughts] == [True] + [False] * len(script)
    assert thoughts[0].usage == done.usage
    assert done.calls == (ToolCall("get_weather", '{"city": "Bern"}'),)
    assert (done.reason, done.unreadable_call) == ("eos", "")


async def test_call_ends_the_text_before_it(golden_thinker: Thinker, knowing: ChatTemplate) -> None:
    encode = knowing.tokenizer.encode
    two = [*call_ids(knowing.tokenizer, "a", {}), *encode("\n"), *call_ids(knowing.tokenizer, "b", {"x": 1})]
    said = encode("Let me look.")
    thoughts, done = await reply(golden_thinker, knowing, [*said, *two])
    assert text_of(thoughts) == "Let me look."
    assert [thought.is_call for thought in thoughts] == [False] * len(said) + [True] * (len(two) + 1)
    assert thoughts[len(said)].token_id == IM_END
    assert thoughts[len(said)].is_spoken
    assert done.calls == (ToolCall("a", "{}"), ToolCall("b", '{"x": 1}'))


async def test_reply_without_a_call_is_as_without_tools(golden_thinker: Thinker, knowing: ChatTemplate) -> None:
    thoughts, done = await reply(golden_thinker, knowing, knowing.tokenizer.encode(" It is warm."))
    assert text_of(thoughts) == " It is warm."
    assert not any(thought.is_call for thought in thoughts)
    assert all(thought.is_spoken for thought in thoughts)
    assert done.calls == ()


async def test_only_one_call_ends_the_reply_where_one_is_allowed(
    golden_thinker: Thinker, knowing: ChatTemplate
) -> None:
    one = call_ids(knowing.tokenizer, "a", {"x": {"y": 1}})
    thoughts, done = await reply(golden_thinker, knowing, [*one, *one], ToolUse(parallel=False))
    assert done.calls == (ToolCall("a", '{"x": {"y": 1}}'),)
    assert len(thoughts) <= len(one)
    assert done.reason == "eos"


async def test_call_that_must_be_made_is_made_whatever_the_model_prefers(
    golden_thinker: Thinker, knowing: ChatTemplate
) -> None:
    form, encode = knowing.tools, knowing.tokenizer.encode
    assert form is not None
    for name, rest in (("", 'list", "arguments": {"n": 2}}'), ("get_weather", ' {"city": "Bern"}}')):
        start = form.prescribed_ids(name)
        script = [*encode("No")] * len(start)
        thoughts, done = await reply(
            golden_thinker, knowing, [*script[: len(start)], *encode(rest)], ToolUse("required", name)
        )
        assert text_of(thoughts) == ""
        expected = ToolCall("get_weather", '{"city": "Bern"}') if name else ToolCall("list", '{"n": 2}')
        assert done.calls == (expected,)


async def test_call_that_must_not_be_made_is_not_begun(golden_thinker: Thinker, knowing: ChatTemplate) -> None:
    script = [TOOL_CALL, *knowing.tokenizer.encode("Warm")]
    thoughts, done = await reply(golden_thinker, knowing, script, ToolUse("none"))
    assert TOOL_CALL not in [thought.token_id for thought in thoughts]
    assert not any(thought.is_call for thought in thoughts)
    assert text_of(thoughts).endswith("Warm")
    assert done.calls == ()


async def test_unreadable_call_says_why(golden_thinker: Thinker, knowing: ChatTemplate) -> None:
    script = [TOOL_CALL, *knowing.tokenizer.encode('\n{"name": "get_weather", "arguments": {"city"')]
    thoughts, done = await reply(golden_thinker, knowing, script)
    assert text_of(thoughts) == ""
    assert done.calls == ()
    assert "cannot be read" in done.unreadable_call


async def test_limit_within_a_call_leaves_the_incomplete_one_out(
    golden_thinker: Thinker, knowing: ChatTemplate
) -> None:
    one = call_ids(knowing.tokenizer, "a", {})
    _, done = await reply(golden_thinker, knowing, [*one, *one], max_thoughts=len(one) + 4)
    assert done.calls == (ToolCall("a", "{}"),)
    assert (done.reason, done.unreadable_call) == ("limit", "")


async def test_tools_and_calls_are_cached_for_their_tenant_alone(
    golden_thinker: Thinker, knowing: ChatTemplate
) -> None:
    past = [
        Message("user", (TextPart("Is it warm?"),)),
        Message("assistant", (), (ToolCall("get_weather", '{"city": "Bern"}', "c1"),)),
        Message("tool", (TextPart("20"),), call_id="c1", name="get_weather"),
    ]
    runner = new_runner(golden_thinker, knowing.tokenizer, max_positions=1_024)

    def turn(scope: str, history: Sequence[Message] = ()) -> Turn:
        opening = TurnOpen(max_thoughts=1, keep_prefix=True, session_id=scope, scope=scope, tool_format=knowing.tools)
        return Turn(opening, ChatPrompt(knowing, None, history, tools=[WEATHER], system_prompt_is_common=True))

    async with running(runner) as engine:
        asked = [Text("Is it warm?"), Commit()]
        _, cold = await take_turn(engine, turn("one"), asked)
        _, answered = await take_turn(engine, turn("one", past), [Commit()])
        _, again = await take_turn(engine, turn("one", past), [Commit()])
        _, other = await take_turn(engine, turn("two"), asked)
        common = turn("two").prompt.common_positions
        assert cold.usage.cached_tokens == 0
        assert answered.usage.cached_tokens > common + 16
        assert again.usage.cached_tokens > answered.usage.cached_tokens
        assert other.usage.cached_tokens <= common
        await engine.call(lambda: runner.forget_session("one"))
        _, forgotten = await take_turn(engine, turn("one", past), [Commit()])
        assert forgotten.usage.cached_tokens <= common


async def test_opening_of_ordinary_text_holds_the_reply_until_it_is_told_from_text(
    golden_thinker: Thinker, tmp_path: Path
) -> None:
    plain = tool_template(tmp_path, TOOL_TEMPLATE.replace("<tool_call>", "CALL:").replace("</tool_call>", "."))
    encode = plain.tokenizer.encode
    thoughts, done = await reply(golden_thinker, plain, encode('CALL:\n{"name": "a", "arguments": {}}\n.'))
    assert text_of(thoughts) == ""
    assert done.calls == (ToolCall("a", "{}"),)
    for text in ("CALM seas.", "CALL", "C"):
        thoughts, done = await reply(golden_thinker, plain, encode(text))
        assert text_of(thoughts) == text
        assert [thought.index for thought in thoughts] == list(range(len(thoughts)))
        assert done.calls == ()
