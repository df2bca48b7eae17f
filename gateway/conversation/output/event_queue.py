"""The queue of events to one client: ordered, bounded, and with limits in time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_PCM_S16LE
from gateway.audio.echo import PlayedSpeech
from gateway.conversation.output.events import EndsSoon, Event, Opened
from gateway.conversation.output.playback_clock import PlaybackClock, speech_sent
from gateway.moving_timer import MovingTimeout
from gateway.pipeline.deltas import AudioDelta, TextDelta
from gateway.settings import GatewaySettings
from gateway.tasks import cancel
from services.common.errors import DeadlineExceeded
from services.common.wire.pcm import decode_pcm, sample_bytes

_EVENTS = 64
_NOTICE_S, _NOTICE_SHARE = 30.0, 0.25
"""How long before the end of an idle or long conversation its client is told: this, or this share of the limit."""
_ORDER_WAIT_S = 0.1
"""An event that is not ready holds the events behind it for at most this long; then they overtake it."""


_ENCODINGS = {sample_bytes(encoding): encoding for encoding in (AUDIO_ENCODING_PCM_S16LE, AUDIO_ENCODING_PCM_F32LE)}
"""The encoding of a reply's speech, by the bytes of a sample."""


class SessionExpired(DeadlineExceeded):
    """The conversation was idle or open for too long. Its session can be continued by another one."""

    code = "session_expired"


class EventQueue:
    """Events for one client, `first` before all others. `deliver` sends an event to the client and may block."""

    def __init__(
        self,
        first: Opened,
        deliver: Callable[[Event], Awaitable[None]],
        limits: GatewaySettings,
        played: PlayedSpeech | None = None,
    ) -> None:
        """`played` is told what the client is sent to play."""
        self._played = played
        self._deliver = deliver
        self._limits = limits
        self._events: asyncio.Queue[tuple[Event | asyncio.Task[Event], PlaybackClock | None] | None]
        self._events = asyncio.Queue(_EVENTS)
        self._events.put_nowait((first, None))
        self._overtaken: set[asyncio.Task[None]] = set()
        """Tasks: each waits for an event that was not ready in its place, and puts it at the end of the queue."""
        self._blocked_s = 0.0
        """How long the client took nothing since the last piece of speech."""
        self._session_id = first.session.session_id
        self._idle: MovingTimeout | None = None
        self._ends_s: float | None = None
        """When the conversation ends at the latest, in the loop's time. None: it has not begun."""

    @property
    def left_s(self) -> float:
        """The seconds until the conversation is as long as it may be, or a drain of the gateway ends it."""
        if self._ends_s is None:
            return self._limits.conversation_limit_s
        return max(0.0, self._ends_s - asyncio.get_running_loop().time())

    async def end_in(self, left_s: float) -> None:
        """Tell the client that the gateway drains and ends the conversation in so many seconds, or before."""
        self._ends_s = asyncio.get_running_loop().time() + min(left_s, self.left_s)
        await self.put(EndsSoon(self.left_s, is_idle=False, is_drain=True))

    async def put(self, event: Event, playback: PlaybackClock | None = None) -> None:
        """Add an event. Waits while the queue is full. `playback` follows the speech of the event's reply."""
        await self._events.put((event, playback))

    async def put_when_ready(self, event: asyncio.Task[Event]) -> None:
        """Add an event that a task makes. It keeps its place in the order if it is ready in time."""
        await self._events.put((event, None))

    async def close(self) -> None:
        """Let `run` end after the last event. All events of tasks are ready."""
        if self._overtaken:
            await asyncio.wait(self._overtaken)
        await self._events.put(None)

    async def delivered(self) -> None:
        """Wait until the client has all events put so far."""
        await self._events.join()

    def drop_deltas(self) -> None:
        """Remove the text and the speech of an interrupted reply."""
        for _ in range(self._events.qsize()):
            entry = self._events.get_nowait()
            self._events.task_done()
            if entry is None or not isinstance(entry[0], (TextDelta, AudioDelta)):
                self._events.put_nowait(entry)

    def touch(self) -> None:
        """Start the idle limit anew."""
        if self._idle is not None:
            self._idle.end_in(self._limits.idle_limit_s)

    async def run(self) -> None:
        """Deliver events until `close`.

        Raises:
            SessionExpired: the conversation was idle or open for too long. The client was told some time before.
            DeadlineExceeded: the client takes no event.
        """
        total_s, idle_s = self._limits.conversation_limit_s, self._limits.idle_limit_s
        notices: list[asyncio.Task[None]] = []
        total, delivery = MovingTimeout(), MovingTimeout()
        try:
            async with total, MovingTimeout() as self._idle, delivery:
                total.end_in(total_s)
                self._idle.end_in(idle_s)
                self._ends_s = total.ends_s
                notices = [
                    asyncio.create_task(self._tell_before(total, total_s, is_idle=False)),
                    asyncio.create_task(self._tell_before(self._idle, idle_s, is_idle=True)),
                ]
                while (entry := await self._events.get()) is not None:
                    await self._deliver_entry(*entry, delivery)
                    self._events.task_done()
        except TimeoutError:
            if delivery.expired():
                raise DeadlineExceeded(f"the client took nothing for {self._limits.slow_client_s:g} s") from None
            why = f"idle for {idle_s:g} s" if self._idle and self._idle.expired() else f"{total_s:g} s long"
            raise SessionExpired(f"the conversation was {why}: open another on session {self._session_id}") from None
        finally:
            self._idle = None
            await cancel(*self._overtaken, *notices)

    async def _tell_before(self, end: MovingTimeout, limit_s: float, *, is_idle: bool) -> None:
        """Tell the client before the conversation ends, each time that the end comes near."""
        notice_s = min(_NOTICE_S, _NOTICE_SHARE * limit_s)
        while end.ends_s < math.inf:
            left_s = end.ends_s - asyncio.get_running_loop().time()
            if left_s > notice_s:
                await asyncio.sleep(left_s - notice_s)
            else:
                await self.put(EndsSoon(max(0.0, left_s), is_idle=is_idle))
                await asyncio.sleep(notice_s)

    async def _deliver_entry(
        self, event: Event | asyncio.Task[Event], playback: PlaybackClock | None, delivery: MovingTimeout
    ) -> None:
        if isinstance(event, asyncio.Task):
            await asyncio.wait([event], timeout=_ORDER_WAIT_S)
            if not event.done():
                overtaken = asyncio.create_task(self._put_at_the_end(event))
                self._overtaken.add(overtaken)
                overtaken.add_done_callback(self._overtaken.discard)
                return
            event = event.result()
        if not isinstance(event, EndsSoon):
            self.touch()
        speech = event if isinstance(event, AudioDelta) else None
        if speech is not None and playback is not None:
            playback.sent_samples = speech.first_sample + speech.samples
        offered_s = time.monotonic()
        delivery.end_in(self._limits.slow_client_s)
        await self._deliver(event)
        delivery.end_never()
        self._blocked_s += time.monotonic() - offered_s
        if speech is not None and playback is not None:
            speech_sent(playback, speech, self._blocked_s)
            self._blocked_s = 0.0
            if self._played is not None and self._played.is_wanted and speech.samples:
                encoding = _ENCODINGS[len(speech.data) // speech.samples]
                at_s = playback.plays_at_s(speech.first_sample)
                self._played.add(speech.first_sample, decode_pcm(speech.data, encoding), at_s)

    async def _put_at_the_end(self, event: asyncio.Task[Event]) -> None:
        await asyncio.wait([event])
        await self.put_when_ready(event)
