"""Calls and results in the history of a conversation, over a fake store."""

from __future__ import annotations

from typing import Any, cast

import pytest

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.history.tool_calls import ToolCalls
from gateway.conversation.turns.active_turns import ActiveTurns
from gateway.conversation.turns.session_context import SessionContext
from gateway.settings import GatewaySettings
from gateway.store.records import ToolCall, TurnRecord
from gateway.store.sessions import Session
from services.common.errors import FailedPrecondition, InvalidArgument
from tests.support.fake_store import FakeSessions, FakeVoices

_SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0")


class _Turn:
    turn_id = "live"

    def __init__(self) -> None:
        self.tool_calls = {"c9": ToolCall("c9", "look", "{}")}


class _Live:
    def __init__(self) -> None:
        self.turn = _Turn()


class _Turns:
    """Turns under way, as far as tool calls read them."""

    def __init__(self) -> None:
        self.input_turn: object | None = None
        self.reply_turn: Any = None


class Talk:
    """A conversation whose history has these turns."""

    def __init__(self, *turns: TurnRecord) -> None:
        session = Session("tenant", "session-1", SessionConfig(voice_id="ada"), turns, 0, 0, 0.0, 0.0)
        sessions = FakeSessions(session, _SETTINGS)
        self.context = SessionContext(session, sessions, FakeVoices(sessions), _SETTINGS)
        self.turns = _Turns()
        self.tools = ToolCalls(self.context, cast(ActiveTurns, self.turns), self._inject, max_chars=100)

    async def _inject(self, text: str) -> str:
        turn_id = f"turn-{len(self.context.session.turns)}"
        self.context.add_turn(TurnRecord(turn_id, texts=(text,), heard_tokens=1))
        self.turns.input_turn = None
        return turn_id

    @property
    def calls(self) -> list[list[ToolCall]]:
        """The calls of each turn."""
        return [list(turn.tool_calls) for turn in self.context.session.turns]


async def test_calls_of_the_past_go_to_the_last_reply_until_one_has_a_result() -> None:
    talk = Talk(TurnRecord("turn-0", texts=("Let me look.",), heard_tokens=1))
    assert await talk.tools.inject(ToolCall("c1", "look", "{}")) == "turn-0"
    assert await talk.tools.inject(ToolCall("c2", "list", "{}")) == "turn-0"
    assert talk.tools.answer("c2", "[]") == "turn-0"
    assert await talk.tools.inject(ToolCall("c3", "look", "{}")) == "turn-1"
    assert talk.calls == [
        [ToolCall("c1", "look", "{}"), ToolCall("c2", "list", "{}", "[]")],
        [ToolCall("c3", "look", "{}")],
    ]


async def test_call_of_the_past_answers_the_input_so_far() -> None:
    talk = Talk(TurnRecord("turn-0", texts=("Hello.",), heard_tokens=1))
    talk.turns.input_turn = object()
    assert await talk.tools.inject(ToolCall("c1", "look", "{}")) == "turn-1"
    assert talk.calls == [[], [ToolCall("c1", "look", "{}")]]


async def test_result_of_a_call_of_the_running_reply_waits_in_it() -> None:
    talk = Talk()
    talk.turns.reply_turn = _Live()
    assert talk.tools.answer("c9", "20") == "live"
    assert talk.turns.reply_turn.turn.tool_calls["c9"].output == "20"
    with pytest.raises(FailedPrecondition):
        await talk.tools.inject(ToolCall("c1", "look", "{}"))


async def test_removed_call_takes_its_result_with_it_and_a_removed_result_leaves_the_call() -> None:
    talk = Talk(TurnRecord("turn-0", tool_calls=(ToolCall("c1", "look", "{}", "1"), ToolCall("c2", "look", "{}", "2"))))
    await talk.tools.remove("c1", output_only=True)
    await talk.tools.remove("c2", output_only=False)
    await talk.tools.remove("c3", output_only=False)
    assert talk.calls == [[ToolCall("c1", "look", "{}")]]


async def test_what_is_unknown_or_too_long_is_refused() -> None:
    talk = Talk(TurnRecord("turn-0", tool_calls=(ToolCall("c1", "look", "{}"),)))
    with pytest.raises(InvalidArgument, match="no tool call 'c2'"):
        talk.tools.answer("c2", "20")
    with pytest.raises(InvalidArgument, match="at most 100 characters, got 101"):
        talk.tools.answer("c1", "x" * 101)
    with pytest.raises(InvalidArgument, match="at most 100 characters"):
        await talk.tools.inject(ToolCall("c4", "look", "x" * 101))
    assert talk.calls == [[ToolCall("c1", "look", "{}")]]
