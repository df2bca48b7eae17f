"""A conversation of a single turn that is not stored, for requests with one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import nullcontext

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.caller import Caller
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.options import ConversationOptions, check_change
from gateway.conversation.output.events import EndsSoon, Event, Opened, Outcome, TurnDone
from gateway.store.sessions import Session
from gateway.store.voices import SpokenVoice
from gateway.tasks import cancel, join

Act = Callable[[Conversation], Awaitable[None]]
"""Makes the turn: the calls of the client in the conversation."""


async def one_shot(
    backend: Backend,
    caller: Caller,
    config: SessionConfig,
    options: ConversationOptions,
    act: Act,
    make_voice: Callable[[], Awaitable[SpokenVoice]] | None = None,
    *,
    has_seat: bool = False,
) -> AsyncGenerator[Event, None]:
    """Yield the events of the turn that `act` makes, up to its TurnDone. `make_voice` makes an ephemeral voice for it,
    which the replicas forget when the turn has ended.

    All work, also that of `make_voice` and `act`, is done in a seat of the caller. `has_seat`: the caller holds one.
    Leaving early cancels the turn and frees its slots. Raises the domain error of a turn that fails.
    """
    check_change(config, max_prompt_chars=backend.settings.max_prompt_chars)
    now = time.time()
    session = Session(caller.tenant, "", config, (), 0, 0, now, now)
    events: asyncio.Queue[Event] = asyncio.Queue(1)
    async with nullcontext() if has_seat else backend.seat(caller):
        voice = await make_voice() if make_voice is not None else None
        conversation = Conversation(session, options, backend, caller, events.put, voice=voice)
        talk = asyncio.create_task(join(_talk(conversation, act), conversation.run()))
        try:
            while True:
                event = await _next(events, talk)
                if isinstance(event, TurnDone) and event.outcome is Outcome.FAILED and event.error is not None:
                    raise event.error
                if not isinstance(event, Opened | EndsSoon):
                    yield event
                if isinstance(event, TurnDone):
                    return
        finally:
            await cancel(talk)
            if voice is not None:
                await backend.eraser.ephemeral_voice(voice)


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
