"""The line to a telephone: frames, marks, and what was played of a reply that is cut off."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.api.twilio.line import TelephoneLine
from gateway.pipeline.deltas import AudioDelta
from gateway.tasks import cancel


def _speech(turn_id: str, ms: int) -> AudioDelta:
    data = b"\x00\x10" * (24 * ms)
    return AudioDelta(turn_id, 0, len(data) // 2, data)


class Sent:
    """What went to Twilio."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def take(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._news.set()

    def of(self, event: str) -> list[dict[str, Any]]:
        """The messages of this event."""
        return [message for message in self.messages if message["event"] == event]

    async def until(self, event: str, count: int) -> None:
        """Wait until so many messages of this event were sent."""
        while len(self.of(event)) < count:
            self._news.clear()
            await self._news.wait()


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
async def line(sent: Sent) -> AsyncIterator[TelephoneLine]:
    """A line that sends."""
    line = TelephoneLine("MZ1", sent.take)
    running = asyncio.create_task(line.run())
    yield line
    await cancel(running)


async def test_a_reply_is_sent_in_frames_of_20_ms_with_a_mark_each_100_ms(line: TelephoneLine, sent: Sent) -> None:
    await line.play(_speech("a", 230))
    line.finish("a")
    await sent.until("mark", 3)
    frames = [base64.b64decode(message["media"]["payload"]) for message in sent.of("media")]
    assert [len(frame) for frame in frames] == [160] * 12
    assert frames[-1].endswith(b"\xff" * 10), "the last frame is filled with silence"
    assert [message["event"] for message in sent.messages[:6]] == ["media"] * 5 + ["mark"]
    assert {message["streamSid"] for message in sent.messages} == {"MZ1"}


async def test_marks_tell_how_much_of_a_reply_that_is_cut_off_was_played(line: TelephoneLine, sent: Sent) -> None:
    await line.play(_speech("a", 500))
    await sent.until("mark", 4)
    for message in sent.of("mark")[:2]:
        line.marked(message["mark"]["name"])
    assert line.stop("a") == {"a": 200}
    await sent.until("clear", 1)
    line.marked(sent.of("mark")[3]["mark"]["name"])  # returned because it was dropped
    await line.play(_speech("a", 500))  # late speech of the reply
    line.finish("a")
    await line.play(_speech("b", 300))
    count = len(sent.of("media"))
    await sent.until("media", count + 4)
    assert line.stop() == {"b": 0}


async def test_a_reply_that_was_played_to_its_end_is_not_cut_off(line: TelephoneLine, sent: Sent) -> None:
    await line.play(_speech("a", 100))
    line.finish("a")
    await sent.until("mark", 1)
    played = asyncio.create_task(line.played())
    await asyncio.sleep(0)
    assert not played.done()
    for message in sent.of("mark"):
        line.marked(message["mark"]["name"])
    await played
    assert line.stop() == {}
    await asyncio.sleep(0)
    assert not sent.of("clear")


async def test_at_most_a_second_is_sent_ahead(line: TelephoneLine, sent: Sent) -> None:
    await line.play(_speech("a", 3_000))
    await sent.until("media", 50)
    await asyncio.sleep(0.01)
    assert len(sent.of("media")) <= 53
