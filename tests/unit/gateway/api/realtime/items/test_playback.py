"""What a client is told of what the gateway plays to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.events.transport import PlaybackChange
from gateway.api.realtime.events.wire import EventFactory
from gateway.api.realtime.items.items import Item, Items
from gateway.api.realtime.items.playback import Playback
from gateway.pipeline.deltas import AudioDelta
from gateway.tasks import cancel

_SPEECH = AudioDelta("turn-1", 0, 1, b"\0\0")


class _Speaker:
    """A speaker that plays nothing."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[PlaybackChange] = asyncio.Queue()
        self.finished: list[str] = []

    def stop(self, turn_id: str = "") -> dict[str, int]:
        return {}

    async def play(self, speech: AudioDelta) -> None:
        return

    def finish(self, turn_id: str) -> None:
        self.finished.append(turn_id)


async def _tell(speaker: _Speaker, playback: Playback, *changes: PlaybackChange) -> None:
    """Let the playback tell of these changes."""
    for change in changes:
        speaker.changes.put_nowait(change)
    running = asyncio.create_task(playback.run())
    while not speaker.changes.empty():  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await cancel(running)


async def test_a_reply_that_is_cut_off_is_truncated_when_its_item_is_complete() -> None:
    sent: list[dict[str, Any]] = []

    async def send(events: list[dict[str, Any]]) -> None:
        sent.extend(events)

    items, speaker = Items(10, 1_000), _Speaker()
    item = Item("item-1", "assistant", [], "turn-1", spoken=[(0, "Hello "), (500, "world.")])
    items.add(item)
    playback = Playback(speaker, items, EventFactory(beta=False), send)
    await playback.play(_SPEECH)
    await _tell(speaker, playback, PlaybackChange("turn-1", "started"), PlaybackChange("turn-1", "cleared", 300))
    assert [event["type"] for event in sent] == ["output_audio_buffer.started", "output_audio_buffer.cleared"]
    assert {event["response_id"] for event in sent} == {"resp_1"}
    await playback.finish("turn-1")
    assert sent[-1]["type"] == "conversation.item.truncated"
    assert (sent[-1]["item_id"], sent[-1]["audio_end_ms"]) == ("item-1", 300)
    assert item.content == [{"type": "output_audio", "transcript": "Hello "}]
    assert speaker.finished == ["turn-1"]


async def test_without_a_speaker_there_is_no_output_buffer() -> None:
    async def send(events: list[dict[str, Any]]) -> None:
        raise AssertionError("nothing is told")

    playback = Playback(None, Items(10, 1_000), EventFactory(beta=False), send)
    await playback.run()
    await playback.play(_SPEECH)
    await playback.finish("turn-1")
    with pytest.raises(BadParameter):
        playback.check()
