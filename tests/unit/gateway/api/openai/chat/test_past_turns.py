"""What a request brings along is put into the conversation in order, within its bounds."""

from __future__ import annotations

import base64
from typing import Any, cast

import pytest

from gateway.api.errors import BadParameter, TooLarge
from gateway.api.openai.chat.past_turns import Recording, Result, Said, talk_from
from gateway.conversation.conversation import Conversation
from gateway.settings import GatewaySettings
from gateway.store.records import ToolCall
from tests.support.gateway_client import audio_file, speech


class _Conversation:
    """Notes what is done with it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    async def inject_reply(self, text: str) -> None:
        self.calls.append(("reply", text))

    def add_text(self, text: str) -> None:
        self.calls.append(("text", text))

    async def append_audio(self, data: bytes) -> None:
        self.calls.append(("audio", len(data) / 4 / 16_000))

    def end_audio(self) -> None:
        self.calls.append(("end", None))

    async def respond(self) -> None:
        self.calls.append(("respond", None))

    @property
    def tools(self) -> _Conversation:
        return self

    async def inject(self, call: ToolCall) -> None:
        self.calls.append(("call", call.call_id))

    def answer(self, call_id: str, output: str) -> None:
        self.calls.append((f"result of {call_id}", output))


async def _talk(*said: Said | Result, **limits: float) -> list[tuple[str, Any]]:
    conversation = _Conversation()
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1")
    changed = settings.model_copy(update=limits)
    await talk_from(cast(Conversation, conversation), said, changed)
    return conversation.calls


def _recording(seconds: float, where: str = "messages.0.content.0") -> Recording:
    return Recording(base64.b64encode(audio_file(speech(seconds), 16_000)).decode(), where)


async def test_the_pieces_enter_in_order_and_the_conversation_replies() -> None:
    calls = await _talk(
        Said("user", "one"),
        Said("assistant", "two"),
        Said("assistant", ToolCall("c1", "look", "{}")),
        Result("c1", "20"),
        Said("user", _recording(1)),
        Said("user", "3"),
    )
    assert calls == [
        ("text", "one"),
        ("reply", "two"),
        ("call", "c1"),
        ("result of c1", "20"),
        ("audio", 1.0),
        ("end", None),
        ("text", "3"),
        ("respond", None),
    ]


async def test_a_recording_longer_than_a_turn_is_a_bad_parameter() -> None:
    with pytest.raises(BadParameter, match=r"messages\.0\.content\.0: .*1 s"):
        await _talk(Said("user", _recording(2)), max_input_s=1.0)


async def test_recordings_that_are_too_long_together_are_too_large() -> None:
    said = [Said("user", _recording(2)), Said("user", _recording(2))]
    with pytest.raises(TooLarge, match="at most 3 s of audio in all messages"):
        await _talk(*said, max_input_s=2.0, history_audio_s=1.0)
