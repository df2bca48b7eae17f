"""Responses outside the conversation of a connection: `response.create` with `conversation` "none".

Each runs beside the conversation, on a context of its own. Nothing of it enters the history or the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.caller import Caller
from gateway.access.quotas import Quota
from gateway.api.errors import BadParameter
from gateway.api.realtime.events.transport import HungUp
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.events import Event, TurnDone
from gateway.store.records import TurnRecord
from gateway.store.sessions import Session
from gateway.tasks import cancel, join
from services.common.errors import ChromaError

_MAX_RUNNING = 4
"""Most responses outside the conversation that one connection runs at a time."""

Deliver = Callable[[Event], Awaitable[None]]


class OutOfBand:
    """The responses outside the conversation that run. `counted` takes what is left of the caller's limits."""

    def __init__(self, backend: Backend, caller: Caller, counted: Callable[[str, list[Quota]], None]) -> None:
        self._backend = backend
        self._caller = caller
        self._counted = counted
        self._running: dict[asyncio.Task[None], Conversation] = {}

    async def run(self) -> None:
        """Wait for ever; cancelling it ends all responses."""
        try:
            await asyncio.Event().wait()
        finally:
            await cancel(*self._running)

    def begin(
        self, config: SessionConfig, options: ConversationOptions, turns: tuple[TurnRecord, ...], deliver: Deliver
    ) -> Conversation:
        """Begin a response to these turns. Returns its conversation. Raises BadParameter when too many run."""
        if len(self._running) >= _MAX_RUNNING:
            message = f"expected at most {_MAX_RUNNING} responses outside the conversation at a time, got one more"
            raise BadParameter("response.conversation", message, "conversation_already_has_active_response")
        now = time.time()
        session = Session(self._caller.tenant, "", config, turns, 0, 0, now, now)
        options = replace(options, turn_detection=None, transcribe_recordings=False)
        done = asyncio.Event()

        async def deliver_and_note(event: Event) -> None:
            await deliver(event)
            if isinstance(event, TurnDone):
                done.set()

        talk = session, options, self._backend, self._caller, deliver_and_note
        conversation = Conversation(*talk, show_quotas=self._counted)
        task = asyncio.create_task(_run(conversation, done))
        self._running[task] = conversation
        task.add_done_callback(self._running.pop)
        return conversation


async def _run(conversation: Conversation, done: asyncio.Event) -> None:
    try:
        await join(_respond(conversation, done), conversation.run())
    except (ChromaError, HungUp):
        return  # the client takes nothing or has gone: its connection ends with the same error


async def _respond(conversation: Conversation, done: asyncio.Event) -> None:
    await conversation.respond()
    await done.wait()  # a cancel ends the turn first and reports it then: `finish` must not come between
    await conversation.finish()
