"""A conversation of a single turn that is not stored, for requests with one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.events import Event, Opened, Outcome, TurnDone
from gateway.conversation.options import ConversationOptions, check_change
from gateway.store.sessions import Session
from gateway.store.voices import SpokenVoice
from gateway.tasks import cancel, join

Act = Callable[[Conversation], Awaitable[None]]
"""Makes the turn: the calls of the client in the conversation."""


async def one_shot(
    backend: Backend,
    tenant: str,
    config: SessionConfig,
    options: ConversationOptions,
    act: Act,
    voice: SpokenVoice | None = None,
) -> AsyncGenerator[Event, None]:
    """Yield the events of the turn that `act` makes, up to its TurnDone.

    Leaving early cancels the turn and frees its slots. Raises the domain error of a turn that fails.
    """
    check_change(config)
    now = time.time()
    session = Session(tenant, "", config, (), 0, 0, now, now)
    events: asyncio.Queue[Event] = asyncio.Queue(1)
    with backend.seat():
        conversation = Conversation(session, options, backend, events.put, voice=voice)
        talk = asyncio.create_task(join(_talk(conversation, act), conversation.run()))
        try:
            while True:
                event = await _next(events, talk)
                if isinstance(event, TurnDone) and event.outcome is Outcome.FAILED and event.error is not None:
                    raise event.error
                if not isinstance(event, Opened):
                    yield event
                if isinstance(event, TurnDone):
                    return
        finally:
            await cancel(talk)


async def _talk(conversation: Conversation, act: Act) -> None:
    await act(conversation)
    await conversation.finish()


async def _next(events: asyncio.Queue[Event], talk: asyncio.Task[None]) -> Event:
    """The next event. Raises the error that ended the conversation before it."""
    event = asyncio.ensure_future(events.get())
    try:
        await asyncio.wait((event, talk), return_when=asyncio.FIRST_COMPLETED)
        if event.done():
            return event.result()
        await talk
        return events.get_nowait()
    finally:
        event.cancel()
