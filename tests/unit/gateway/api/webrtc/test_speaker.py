"""What a call plays: replies in order, silence between them, and what is left of one that is cut off."""

from __future__ import annotations

import asyncio

from gateway.api.realtime.events.transport import PlaybackChange
from gateway.api.webrtc.speaker import FRAME_S, ReplyQueue, SpeakerTrack
from gateway.pipeline.deltas import AudioDelta


def _speech(turn_id: str, ms: int, value: int = 1) -> AudioDelta:
    data = bytes([value, 0]) * (24 * ms)
    return AudioDelta(turn_id, 0, len(data) // 2, data)


def _changes(replies: ReplyQueue) -> list[PlaybackChange]:
    return [replies.changes.get_nowait() for _ in range(replies.changes.qsize())]


async def test_replies_are_played_one_after_the_other_and_their_ends_are_told() -> None:
    replies = ReplyQueue()
    await replies.play(_speech("a", 30, 1))
    await replies.play(_speech("b", 10, 2))
    replies.finish("a")
    assert replies.take(48 * 40) == bytes([1, 0]) * 720 + bytes([2, 0]) * 240
    assert replies.take(960) == b"", "more of b may come"
    replies.finish("b")
    assert replies.take(960) == b""
    assert _changes(replies) == [
        PlaybackChange("a", "started"),
        PlaybackChange("a", "stopped", 30),
        PlaybackChange("b", "started"),
        PlaybackChange("b", "stopped", 10),
    ]


async def test_a_reply_that_is_cut_off_has_what_was_played_and_none_of_it_comes_later() -> None:
    replies = ReplyQueue()
    await replies.play(_speech("a", 100))
    replies.finish("a")
    await replies.play(_speech("b", 100))
    replies.take(48 * 40)
    assert replies.stop("c") == {"c": 0, "a": 40, "b": 0}
    for turn_id in ("b", "c"):
        await replies.play(_speech(turn_id, 20))
    assert replies.take(960) == b""
    replies.finish("b")
    await replies.play(_speech("d", 20))
    assert replies.take(960) == bytes([1, 0]) * 480


async def test_too_much_speech_waits_until_some_is_played_or_dropped() -> None:
    replies = ReplyQueue()
    await replies.play(_speech("a", 6_000))
    waiting = asyncio.create_task(replies.play(_speech("a", 10)))
    await asyncio.sleep(0)
    assert not waiting.done()
    replies.take(48 * 1_500)
    await waiting
    stopped = asyncio.create_task(replies.play(_speech("a", 2_000)))
    await stopped
    blocked = asyncio.create_task(replies.play(_speech("a", 10)))
    await asyncio.sleep(0)
    assert not blocked.done()
    replies.stop()
    await blocked
    assert replies.take(960) == b""


async def test_the_track_gives_a_frame_for_each_20_ms_and_silence_where_there_is_nothing() -> None:
    replies = ReplyQueue()
    track = SpeakerTrack(replies)
    await replies.play(_speech("a", 30))
    started_s = asyncio.get_running_loop().time()
    frames = [await track.recv() for _ in range(4)]
    assert asyncio.get_running_loop().time() - started_s >= 3 * FRAME_S - 0.002
    assert [frame.pts for frame in frames] == [0, 480, 960, 1_440]
    assert bytes(frames[1].planes[0])[:960] == bytes([1, 0]) * 240 + bytes(480)
    assert not any(bytes(frames[2].planes[0])[:960])


async def test_a_clock_that_stood_still_goes_on_without_making_up_for_it() -> None:
    track = SpeakerTrack(ReplyQueue())
    await track.recv()
    assert track._start_s is not None
    track._start_s -= 60
    for _ in range(3):
        await track.recv()
    late_s = asyncio.get_running_loop().time() - track._start_s - 3 * FRAME_S
    assert late_s < 1
