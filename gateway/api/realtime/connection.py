"""One Realtime connection: client events become inputs of a `Conversation`, whose events become server events.

READ FIRST in this folder. A connection adds only bookkeeping to the conversation: the items that the client knows
(items/, input/), the responses (responses/), and the settings that the client sent (session/). A client event that is
wrong or not supported is answered by an `error` event; the connection goes on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from gateway.access.caller import Caller
from gateway.access.quotas import Quota
from gateway.api.errors import BadParameter
from gateway.api.field_errors import fit
from gateway.api.realtime.context import ConnectionContext
from gateway.api.realtime.events.client_events import SessionUpdate, client_event_id, read_event
from gateway.api.realtime.events.transport import Transport
from gateway.api.realtime.events.wire import EventFactory, Events
from gateway.api.realtime.input.input_buffer import InputBuffer
from gateway.api.realtime.input.item_events import ItemEvents
from gateway.api.realtime.input.microphone import Microphone
from gateway.api.realtime.input.reading import read_until_closing
from gateway.api.realtime.items.items import Items
from gateway.api.realtime.items.past_items import past_items
from gateway.api.realtime.items.playback import Playback
from gateway.api.realtime.responses.out_of_band import OutOfBand
from gateway.api.realtime.responses.response_input import ResponseInput
from gateway.api.realtime.responses.responses import Responses
from gateway.api.realtime.session.session import Format, RealtimeSession
from gateway.api.realtime.session.settings import ConnectionSettings
from gateway.api.realtime.session.tools import SessionTools, unused_tools
from gateway.api.realtime.session.update import SessionIn, ignored_fields
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.output.events import (
    EndsSoon,
    Event,
    Opened,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
    UserTranscript,
)
from gateway.store.sessions import Session
from gateway.tasks import join
from services.common.errors import ChromaError

log = logging.getLogger(__name__)


class Connection:
    """One client's connection. `session` is the stored session of its conversation."""

    def __init__(
        self, transport: Transport, backend: Backend, caller: Caller, session: Session, model: str, *, beta: bool
    ) -> None:
        self._transport = transport
        self._events = EventFactory(beta=beta)
        limits = backend.settings
        self._deleted = False
        """Whether the client deleted the session, which ends the connection."""
        config, session_id = session.config, session.session_id or f"unstored-{secrets.token_hex(8)}"
        realtime = RealtimeSession(
            session_id,
            model,
            config.voice_id,
            config.system_prompt,
            can_transcribe=limits.transcribe,
            tools=SessionTools.of(config.tools) if backend.renders_tools else SessionTools(),
            can_use_tools=backend.renders_tools,
            temperature=round(config.sampling.temperature, 6) if config.sampling.HasField("temperature") else None,
            store=bool(session.session_id),
        )
        talk = session, realtime.options, backend, caller, self._deliver
        self._conversation = Conversation(*talk, show_quotas=self._counted, player=transport.speaker)
        items = Items(limits.realtime_items, limits.realtime_item_chars)
        for item in past_items(session.turns, beta=beta):
            items.add(item)
        self._settings = ConnectionSettings(realtime, config, self._conversation, items.system_texts, backend, caller)
        self._settings.fixed_format = None if transport.speaker is None else Format()
        context = ConnectionContext(items, self._conversation, self._settings, self._events, self._send)
        self._playback = Playback(transport.speaker, items, self._events, self._send)
        item_events = ItemEvents(context, self._playback, max_chars=limits.max_input_chars)
        response_input = ResponseInput(items, self._conversation, item_events.parts)
        self._out_of_band = OutOfBand(backend, caller, self._counted)
        self._responses = Responses(context, self._playback, response_input, self._out_of_band)
        self._input = InputBuffer(context, Microphone(self._conversation, limits.max_input_s))
        self._inputs: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "session.update": self._update,
            "transcription_session.update": self._update,
            "session.delete": self._delete_session,
            "input_audio_buffer.append": self._input.append,
            "input_audio_buffer.commit": self._input.commit,
            "input_audio_buffer.clear": self._input.clear,
            "conversation.item.create": item_events.create,
            "conversation.item.retrieve": item_events.retrieve,
            "conversation.item.truncate": item_events.truncate,
            "conversation.item.delete": item_events.delete,
            "response.create": self._responses.create,
            "response.cancel": self._responses.cancel,
            "output_audio_buffer.clear": self._responses.clear,
        }

    async def run(self, draining: asyncio.Event) -> None:
        """Run the conversation until the client hangs up or deletes the session, or the gateway drains.

        Raises HungUp when the client hangs up, and the error that ends the conversation otherwise.
        """
        await join(self._playback.run(), self._out_of_band.run(), self._receive(draining), self._conversation.run())

    async def configure(self, update: SessionIn) -> None:
        """Change the settings. Raises BadParameter, InvalidArgument, Unavailable."""
        await self._settings.update(update)

    async def _receive(self, draining: asyncio.Event) -> None:
        """Handle client events until the client hangs up or the gateway drains; then finish the conversation."""
        await read_until_closing(self._read_events(), draining, self._conversation)

    async def _read_events(self) -> None:
        """Read and handle client events, one at a time: the server reads no further message while one is handled."""
        while not self._deleted:
            message = await self._transport.receive()
            if isinstance(message, bytes):
                await self._input.microphone.push(message)
                continue
            event_id = None
            try:
                event = await read_event(message)
                del message  # a long event is held once, while it is handled
                event_id = client_event_id(event)
                handle = self._inputs.get(event["type"])
                if handle is None:
                    raise BadParameter("type", f"unknown event type {event['type'][:80]!r}", "unknown_event")
                async with self._conversation.handling:
                    await handle(event)
            except ChromaError as error:
                await self._send_error(error, event_id)

    async def _send_error(self, error: ChromaError, event_id: str | None) -> None:
        """Send an error about a client event, or about a message that is none."""
        await self._send([self._events.error(error, event_id)])

    async def _update(self, event: dict[str, Any]) -> None:
        update = fit(event, SessionUpdate).session
        if event["type"] != "session.update":
            update = update.model_copy(update={"type": "transcription"})
        await self.configure(update)
        ignored = ignored_fields(event["session"], SessionIn, "session")
        if self._settings.session.transcription is None and (asked := update.transcription_field):
            ignored.append(f"session.{asked}")
        ignored += unused_tools(update, can_use_tools=self._settings.session.can_use_tools)
        if ignored:
            log.info("a client sent settings that are ignored: %r", ignored)
        await self._send_session(f"{event['type']}d", **({"ignored": ignored} if ignored else {}))

    async def _delete_session(self, event: dict[str, Any]) -> None:
        erasure = await self._conversation.delete_session()
        self._deleted = True
        fields = {"session_id": self._settings.session.session_id, "erasure": asdict(erasure) if erasure else None}
        await self._send([self._events.event("session.deleted", **fields)])

    async def _deliver(self, event: Event) -> None:
        match event:
            case Opened():
                is_beta_transcription = self._events.beta and self._settings.session.type == "transcription"
                await self._send_session(
                    "transcription_session.created" if is_beta_transcription else "session.created"
                )
            case SpeechStarted():
                await self._input.started(event)
            case SpeechStopped():
                await self._input.stopped(event)
            case TranscriptDelta() | UserTranscript():
                await self._input.transcribed(event)
            case EndsSoon():
                await self._send_session("session.updated", event.in_s)
            case _:
                await self._responses.deliver(event)

    def _counted(self, turn_id: str, quotas: list[Quota]) -> None:
        self._responses.counted(turn_id, quotas)

    async def _send_session(self, kind: str, left_s: float | None = None, /, **fields: Any) -> None:
        session = self._settings.session
        is_flat = self._events.beta or kind.startswith("transcription_session")
        to_dict = session.to_beta_dict if is_flat else session.to_dict
        await self._send([self._events.event(kind, session=to_dict(left_s or self._conversation.left_s), **fields)])

    async def _send(self, events: Events) -> None:
        for event in events:
            await self._transport.send(event)
