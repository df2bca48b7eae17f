from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from chroma_voice.cli import app
from chroma_voice.cli.conversation.chat import converse, level
from chroma_voice.cli.conversation.chat_view import ChatView
from chroma_voice.errors import Unavailable
from chroma_voice.events import (
    AudioDelta,
    Event,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    Timings,
    TurnDone,
    TurnStarted,
    UserTranscript,
)
from chroma_voice.microphone import Speaker

SOUND = bytes(9600)


class FakeTalk:
    """Keeps what it is sent. `heard` is set with the first sound."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.cancelled: list[float | None] = []
        self.heard = asyncio.Event()

    async def send_audio(self, data: bytes) -> None:
        self.sent.append(data)
        self.heard.set()

    async def cancel(self, *, played_s: float | None = None) -> None:
        self.cancelled.append(played_s)


class FakeSpeaker:
    """A loudspeaker that plays nothing by itself."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_playing = False

    def begin(self) -> None:
        self.calls.append("begin")

    def play(self, data: bytes) -> None:
        self.calls.append(f"play {len(data)}")
        self.is_playing = True

    def interrupt(self) -> float:
        self.calls.append("interrupt")
        self.is_playing = False
        return 1.5

    async def finish(self) -> None:
        self.calls.append("finish")


def done(outcome: str, **fields: Any) -> TurnDone:
    given = {"error": None, "recorded": True, "text": "", "heard_text": "", "speech_end": "eos", "timings": Timings()}
    counts = ("input_audio_s", "output_audio_s", "input_tokens", "cached_tokens", "output_tokens")
    zeros = dict.fromkeys((*counts, "speech_restarts", "dropped_turns"), 0)
    return TurnDone(**{"turn_id": "t", "outcome": outcome, **given, **zeros, **fields})


async def chat(events: list[Event]) -> tuple[FakeTalk, FakeSpeaker, str]:
    talk, speaker, printed = FakeTalk(), FakeSpeaker(), io.StringIO()

    async def sound() -> AsyncIterator[bytes]:
        while True:
            yield SOUND
            await asyncio.sleep(0)

    async def all_events() -> AsyncIterator[Event]:
        await talk.heard.wait()
        for event in events:
            yield event

    with ChatView(Console(file=printed, width=200)) as view:
        await converse(talk, all_events(), sound(), cast(Speaker, speaker), view)
    return talk, speaker, printed.getvalue()


async def test_what_both_say_is_printed_and_the_reply_is_played() -> None:
    events: list[Event] = [
        SpeechStarted("t", 0.0),
        SpeechStopped("t", 1.0),
        TurnStarted("t"),
        TextDelta("t", "Fold ", 0.0),
        AudioDelta("t", 0, SOUND),
        TextDelta("t", "it.", 0.1),
        done("completed"),
        UserTranscript("t", "How?", None),
    ]
    talk, speaker, printed = await chat(events)
    assert set(talk.sent) == {SOUND}
    assert talk.cancelled == []
    assert speaker.calls == ["begin", "play 9600", "finish"]
    assert printed.splitlines() == ["Chroma: Fold it.", "You: How?"]


async def test_speech_stops_the_loudspeaker_and_the_server_learns_what_was_played() -> None:
    events: list[Event] = [
        TurnStarted("t"),
        TextDelta("t", "Fold", 0.0),
        AudioDelta("t", 0, SOUND),
        SpeechStarted("u", 2.0),
        done("interrupted"),
    ]
    talk, speaker, printed = await chat(events)
    assert talk.cancelled == [1.5]
    assert speaker.calls == ["begin", "play 9600", "interrupt", "finish"]
    assert "Chroma: Fold [interrupted]" in printed


async def test_a_turn_that_fails_and_a_reply_out_of_the_domain_are_told() -> None:
    events: list[Event] = [
        TurnStarted("t"),
        done("failed", error=Unavailable("the codec is away")),
        done("completed", out_of_domain=("Good morning.",)),
    ]
    _, _, printed = await chat(events)
    assert "error (UNAVAILABLE): the codec is away" in printed
    assert "cannot say this text" in printed


async def test_a_conversation_that_breaks_ends_the_chat() -> None:
    async def events() -> AsyncIterator[Event]:
        raise Unavailable("gone")
        yield

    async def sound() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield SOUND

    with pytest.raises(Unavailable):
        await converse(
            FakeTalk(), events(), sound(), cast(Speaker, FakeSpeaker()), ChatView(Console(file=io.StringIO()))
        )


async def test_a_microphone_that_breaks_ends_the_chat() -> None:
    async def events() -> AsyncIterator[Event]:
        await asyncio.Event().wait()
        yield TurnStarted("t")

    async def sound() -> AsyncIterator[bytes]:
        raise Unavailable("no microphone")
        yield SOUND

    with pytest.raises(Unavailable, match="no microphone"):
        await converse(
            FakeTalk(), events(), sound(), cast(Speaker, FakeSpeaker()), ChatView(Console(file=io.StringIO()))
        )


async def test_a_write_that_fails_because_the_user_ends_the_chat_is_no_error() -> None:
    talk, reading, ended = FakeTalk(), asyncio.Event(), asyncio.Event()

    async def events() -> AsyncIterator[Event]:
        reading.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        yield TurnStarted("t")

    async def sound() -> AsyncIterator[bytes]:
        try:
            await ended.wait()
        finally:
            raise Unavailable("the server ended the call while it was written to")
        yield SOUND

    view = ChatView(Console(file=io.StringIO()))
    chat = asyncio.create_task(converse(talk, events(), sound(), cast(Speaker, FakeSpeaker()), view))
    await reading.wait()
    chat.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chat


def test_the_level_goes_from_silence_to_full_scale() -> None:
    assert level(b"") == level(bytes(100)) == 0.0
    assert level((np.ones(100) * 32767).astype("<i2").tobytes()) == pytest.approx(1.0, abs=0.001)
    assert level((np.ones(100) * 32.767).astype("<i2").tobytes()) == pytest.approx(0.0, abs=0.01)


def test_the_devices_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(
        default=SimpleNamespace(device=[0, 1]),
        query_devices=lambda: [
            {"name": "Built-in [mic]", "max_input_channels": 2, "max_output_channels": 0},
            {"name": "Headset", "max_input_channels": 1, "max_output_channels": 2},
        ],
    )
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", card)
    shown = CliRunner().invoke(app, ["chat", "--list-devices"], catch_exceptions=False).output.splitlines()
    assert shown[1].split() == ["0", "*", "yes", "Built-in", "[mic]"]
    assert shown[2].split() == ["1", "*", "yes", "yes", "Headset"]
