"""The shared parts of one Realtime connection over fake upstreams and a fake store, and what its client was sent."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.usage import Usage
from gateway.api.realtime.context import ConnectionContext
from gateway.api.realtime.events.wire import EventFactory, Events
from gateway.api.realtime.items.items import Items
from gateway.api.realtime.session.session import RealtimeSession
from gateway.api.realtime.session.settings import ConnectionSettings
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.output.events import Event
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session
from gateway.tasks import cancel
from tests.support.fake_calls import FakeUpstreamPool
from tests.support.fake_store import CALLER, FakeSessions, FakeVoices

SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", max_input_chars=50)


class RealtimeRoom:
    """A connection without transport. Its settings have no turn detection, and `client` says what the client reads."""

    def __init__(self) -> None:
        config = SessionConfig(voice_id="ada", system_prompt="Be brief.")
        session = Session("tenant", "session-1", config, (), 0, 0, 0.0, 0.0)
        self.upstreams = FakeUpstreamPool()
        self.sessions = FakeSessions(session, SETTINGS)
        pool, voices = cast(UpstreamPool, self.upstreams), FakeVoices(self.sessions)
        self.backend = Backend(pool, self.sessions, voices, SETTINGS, Usage(None, SETTINGS))
        realtime = RealtimeSession("session-1", "chroma-1.0", "ada", "Be brief.", turn_detection=None)
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.conversation = Conversation(session, realtime.options, self.backend, CALLER, self._deliver)
        self.items = Items(100, 10_000)
        self.client: Events = []
        """The server events so far."""
        self._news = asyncio.Event()
        changes = self.conversation, self.items.system_texts, self.backend, CALLER
        self.settings = ConnectionSettings(realtime, config, *changes)
        factory = EventFactory(beta=False)
        self.context = ConnectionContext(self.items, self.conversation, self.settings, factory, self._send)

    async def _deliver(self, event: Event) -> None:
        self.events.put_nowait(event)

    async def _send(self, events: Events) -> None:
        self.client += events
        self._news.set()

    async def until(self, kind: str) -> dict[str, Any]:
        """Wait until the client has an event of this type. Returns the last one."""
        async with asyncio.timeout(30):
            while True:
                for event in reversed(self.client):
                    if event["type"] == kind:
                        return event
                self._news.clear()
                await self._news.wait()

    @property
    def told(self) -> list[str]:
        """The types of the server events so far."""
        return [event["type"] for event in self.client]

    def last(self) -> dict[str, Any]:
        """The last server event."""
        return self.client[-1]


@asynccontextmanager
async def realtime_room() -> AsyncIterator[RealtimeRoom]:
    """A room whose conversation runs."""
    room = RealtimeRoom()
    running = asyncio.create_task(room.conversation.run())
    try:
        yield room
    finally:
        await cancel(running)
        await room.backend.eraser.close()


def audio_event(milliseconds: int) -> dict[str, Any]:
    """`input_audio_buffer.append` with so much sound at 24 kHz."""
    pcm = b"\x00\x40" * (24 * milliseconds)
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()}


def message(role: str, *texts: str, **fields: Any) -> dict[str, Any]:
    """An item that is a message of texts."""
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text} for text in texts]
    return {"type": "message", "role": role, "content": content, **fields}
