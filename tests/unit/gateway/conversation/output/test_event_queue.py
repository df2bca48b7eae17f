"""The order, the bounds and the time limits of the events to one client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_PCM_S16LE
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.audio.echo import PlayedSpeech
from gateway.conversation.output import event_queue
from gateway.conversation.output.event_queue import EventQueue, SessionExpired
from gateway.conversation.output.events import EndsSoon, Event, Opened, Outcome, SpeechStarted, TurnDone, TurnStarted
from gateway.conversation.output.playback_clock import PlaybackClock
from gateway.pipeline.deltas import AudioDelta, TextDelta
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session
from gateway.tasks import cancel
from services.common.errors import DeadlineExceeded
from services.common.wire.pcm import encode_pcm
from tests.support.virtual_time import virtual_time

_SESSION = Session("tenant", "session-1", SessionConfig(), (), 0, 0, 0.0, 0.0)
_OPENED = Opened(_SESSION)


def _limits(**changes: float) -> GatewaySettings:
    fields = {"reasoner": "a:1", "speech_gen": "b:1", "codec": "c:1", "redis_url": "redis://d:1/0", **changes}
    return GatewaySettings(**fields)  # pyright: ignore[reportArgumentType]


class Client:
    """Takes events; `takes` is cleared to make it slow."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.takes = asyncio.Event()
        self.takes.set()

    async def deliver(self, event: Event) -> None:
        """Take an event."""
        await self.takes.wait()
        self.events.append(event)


@asynccontextmanager
async def _running(client: Client, **limits: float) -> AsyncIterator[EventQueue]:
    queue = EventQueue(_OPENED, client.deliver, _limits(**limits))
    running = asyncio.create_task(queue.run())
    yield queue
    await queue.close()
    await running


async def test_events_come_in_order_and_run_ends_after_the_last_one() -> None:
    client = Client()
    async with _running(client) as queue:
        await queue.put(TurnStarted("turn-1"))
        await queue.put(TextDelta("turn-1", "Hi", 0))
        await queue.delivered()
        assert client.events == [_OPENED, TurnStarted("turn-1"), TextDelta("turn-1", "Hi", 0)]


async def test_the_text_and_the_speech_of_an_interrupted_reply_are_dropped_and_the_rest_stays() -> None:
    client = Client()
    queue = EventQueue(_OPENED, client.deliver, _limits())
    await queue.put(TurnStarted("turn-1"))
    await queue.put(TextDelta("turn-1", "Hi", 0))
    await queue.put(AudioDelta("turn-1", 0, 1, b"00"))
    queue.drop_deltas()
    await queue.close()
    await queue.run()
    assert client.events == [_OPENED, TurnStarted("turn-1")]


async def test_an_event_that_is_ready_in_time_keeps_its_place() -> None:
    client = Client()
    recorded = asyncio.Event()
    done = TurnDone("turn-1", Outcome.INTERRUPTED)

    async def report() -> Event:
        await recorded.wait()
        return done

    with virtual_time():
        async with _running(client) as queue:
            await queue.put_when_ready(asyncio.create_task(report()))
            await queue.put(TurnStarted("turn-2"))
            await asyncio.sleep(0.9 * event_queue._ORDER_WAIT_S)
            recorded.set()
    assert client.events == [_OPENED, done, TurnStarted("turn-2")]


async def test_an_event_that_is_not_ready_lets_the_others_pass_and_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queue, "_ORDER_WAIT_S", 0.001)
    client = Client()
    recorded = asyncio.Event()
    done = TurnDone("turn-1", Outcome.INTERRUPTED)

    async def report() -> Event:
        await recorded.wait()
        return done

    async with _running(client) as queue:
        await queue.put_when_ready(asyncio.create_task(report()))
        await queue.put(TurnStarted("turn-2"))
        await queue.delivered()
        assert client.events == [_OPENED, TurnStarted("turn-2")]
        recorded.set()
    assert client.events == [_OPENED, TurnStarted("turn-2"), done]


async def test_leaving_the_queue_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queue, "_ORDER_WAIT_S", 0.001)
    client, tasks = Client(), asyncio.all_tasks()
    queue = EventQueue(_OPENED, client.deliver, _limits())
    report: asyncio.Task[Event] = asyncio.create_task(_never())
    running = asyncio.create_task(queue.run())
    await queue.put_when_ready(report)
    await queue.delivered()
    await cancel(running, report)
    assert asyncio.all_tasks() == tasks


async def _never() -> Event:
    await asyncio.Event().wait()
    raise AssertionError("never")


async def test_speech_counts_as_sent_from_the_moment_when_its_sending_begins() -> None:
    client, playback = Client(), PlaybackClock()
    async with _running(client) as queue:
        await queue.delivered()
        client.takes.clear()
        await queue.put(AudioDelta("turn-1", 100, 50, b"00"), playback)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (playback.sent_samples, playback.first_s) == (150, None)
        client.takes.set()
        await queue.delivered()
        assert playback.first_s is not None


async def test_put_waits_while_many_events_are_under_way() -> None:
    client = Client()
    client.takes.clear()
    async with _running(client) as queue:
        for number in range(64):
            await queue.put(SpeechStarted("turn-1", number))
        further = asyncio.create_task(queue.put(TurnStarted("turn-2")))
        for _ in range(3):
            await asyncio.sleep(0)
        waited = not further.done()
        client.takes.set()
        await further
    assert waited or len(client.events) > 64


async def test_the_speech_that_a_client_plays_is_told_to_what_knows_its_echo() -> None:
    client, played = Client(), PlayedSpeech(24_000)
    queue = EventQueue(_OPENED, client.deliver, _limits(), played)
    running = asyncio.create_task(queue.run())
    for wanted in (False, True):
        played.is_wanted = wanted
        for encoding, first in ((AUDIO_ENCODING_PCM_S16LE, 0), (AUDIO_ENCODING_PCM_F32LE, 4_800)):
            sound = np.full(4_800, 0.25, dtype=np.float32)
            speech = AudioDelta("turn-1", first, len(sound), encode_pcm(sound, encoding))
            await queue.put(speech, PlaybackClock())
        await queue.delivered()
        assert (played.around(time.monotonic()) is not None) == wanted
    await queue.close()
    await running


async def test_a_client_is_told_before_an_idle_conversation_ends_and_a_touch_keeps_it() -> None:
    client = Client()
    queue = EventQueue(_OPENED, client.deliver, _limits(idle_limit_s=40))
    with virtual_time():
        running = asyncio.create_task(queue.run())
        await asyncio.sleep(31)
        queue.touch()
        await asyncio.sleep(39)
        assert not running.done()
        with pytest.raises(SessionExpired, match="idle"):
            await running
    assert client.events == [_OPENED, EndsSoon(10, is_idle=True), EndsSoon(10, is_idle=True)]


async def test_a_client_is_told_before_a_conversation_is_as_long_as_it_may_be() -> None:
    client = Client()
    queue = EventQueue(_OPENED, client.deliver, _limits(conversation_limit_s=40))
    assert queue.left_s == 40
    with virtual_time(), pytest.raises(SessionExpired, match=r"40 s long: open another on session session-1"):
        await queue.run()
    assert client.events == [_OPENED, EndsSoon(10, is_idle=False)]


async def test_a_client_is_told_of_a_drain_and_the_time_left_is_the_shorter_one() -> None:
    client = Client()
    queue = EventQueue(_OPENED, client.deliver, _limits())
    running = asyncio.create_task(queue.run())
    await queue.delivered()
    for left_s, told_s in ((30.0, 30.0), (1_000_000.0, 30.0)):
        await queue.end_in(left_s)
        await queue.delivered()
        told = client.events[-1]
        assert isinstance(told, EndsSoon)
        assert (told.is_idle, told.is_drain) == (False, True)
        assert told_s - 5 < told.in_s <= told_s
        assert queue.left_s <= told.in_s
    await queue.close()
    await running


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"idle_limit_s": 40}, "idle for 40 s: open another on session session-1"),
        ({"conversation_limit_s": 40}, "40 s long"),
    ],
)
async def test_a_conversation_that_is_idle_or_open_for_too_long_ends(limits: dict[str, float], why: str) -> None:
    queue = EventQueue(_OPENED, Client().deliver, _limits(**limits))
    with virtual_time(), pytest.raises(DeadlineExceeded, match=why):
        await queue.run()


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    client = Client()
    client.takes.clear()
    queue = EventQueue(_OPENED, client.deliver, _limits(slow_client_s=0.01))
    with pytest.raises(DeadlineExceeded, match="took nothing"):
        await queue.run()
