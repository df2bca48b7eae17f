"""One Realtime connection: client events become inputs of a `Conversation`, whose events become server events.

READ FIRST in this folder. A connection adds only bookkeeping to the conversation: the items that the client knows, and
the settings that the client sent. A client event that is wrong or not supported is answered by an `error` event; the
connection goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.api.catalog import choose_voice
from gateway.api.errors import BadParameter, validation_error
from gateway.api.realtime.client_events import ItemCreate, ItemIn, ItemReference, ItemTruncate, ResponseCreate
from gateway.api.realtime.items import Item, Items, new_item_id
from gateway.api.realtime.reply import Reply, reply_content
from gateway.api.realtime.session import RealtimeSession, SessionIn
from gateway.api.realtime.wire import EventFactory, decode_audio, error_detail
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.events import (
    Event,
    Opened,
    SpeechStarted,
    SpeechStopped,
    TurnDone,
    TurnStarted,
    UserTranscript,
)
from gateway.pipeline.deltas import AudioDelta, TextDelta
from gateway.store.sessions import Session
from gateway.tasks import join
from services.common.errors import ChromaError
from services.common.wire.audio import FRAME_S

log = logging.getLogger(__name__)


class Connection:
    """One client's connection. `session` is the stored session of its conversation."""

    def __init__(self, socket: WebSocket, backend: Backend, session: Session, model: str, *, beta: bool) -> None:
        self._socket = socket
        self._backend = backend
        self._tenant = session.tenant
        self._events = EventFactory(beta=beta)
        self._items = Items()
        config = session.config
        self._session = RealtimeSession(session.session_id, model, config.voice_id, config.system_prompt)
        self._config = config
        self._replies: dict[str, Reply] = {}
        """The replies whose `response.done` was not sent, by turn id, the newest last."""
        self._handling = asyncio.Lock()
        """Held while a client event is handled."""
        self._audio_item_id = ""
        """Id of the item that the input audio buffer will become. Empty: none was announced yet."""
        self._metadata: dict[str, str] | None = None
        """Metadata of the response that the client asked for and that has not started."""
        self._reply_session: RealtimeSession | None = None
        """Settings of that response. None: the session's."""
        self._conversation = Conversation(session, self._session.options, backend, self._deliver)
        self._inputs: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
            "conversation.item.delete": self._delete_item,
            "response.create": self._respond,
            "response.cancel": self._cancel,
        }

    async def run(self, draining: asyncio.Event) -> None:
        """Run the conversation until the client hangs up or the gateway drains.

        Raises WebSocketDisconnect when the client hangs up, and the error that ends the conversation otherwise.
        """
        await join(self._receive(draining), self._conversation.run())

    async def _send_error(self, error: ChromaError) -> None:
        """Send an error about a message that is not a client event."""
        await self._send([self._events.error(error, None)])

    # Client events.

    async def _receive(self, draining: asyncio.Event) -> None:
        """Handle client events until the client hangs up or the gateway drains; then finish the conversation."""
        reading, drained = asyncio.ensure_future(self._read_events()), asyncio.ensure_future(draining.wait())
        try:
            await asyncio.wait((reading, drained), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            async with self._handling:  # a half-handled event could leave a turn that never ends
                reading.cancel()
        finally:
            reading.cancel()
            drained.cancel()
            await asyncio.wait((reading, drained))
        await self._conversation.finish()

    async def _read_events(self) -> None:
        while True:
            try:
                message = await self._socket.receive_text()
            except KeyError:
                await self._send_error(BadParameter("event", "expected JSON text, got a binary message"))
                continue
            event_id = None
            try:
                event = json.loads(message)
                if not isinstance(event, dict) or not isinstance(event.get("type"), str):
                    raise BadParameter("type", "expected a JSON object with a `type`", "missing_required_parameter")
                event_id = event.get("event_id")
                handle = self._inputs.get(event["type"])
                if handle is None:
                    raise BadParameter("type", f"unknown event type {event['type'][:80]!r}", "unknown_event")
                async with self._handling:
                    await handle(event)
            except (json.JSONDecodeError, UnicodeDecodeError):
                await self._send_error(BadParameter("event", "expected JSON, got something else", "invalid_json"))
            except ValidationError as error:
                await self._send([self._events.error(validation_error(error), event_id)])
            except ChromaError as error:
                await self._send([self._events.error(error, event_id)])

    async def _update(self, event: dict[str, Any]) -> None:
        updated = self._session.updated(SessionIn.model_validate(event.get("session"), strict=False))
        if updated.voice != self._session.voice:
            updated = replace(updated, voice=await choose_voice(self._backend, self._tenant, updated.voice))
        self._conversation.set_options(updated.options)
        self._session = updated
        await self._store_settings()
        await self._send_session("session.updated")

    async def _store_settings(self) -> None:
        """Update the stored session's settings if the connection's settings or system items changed them."""
        config = self._session_config(self._session)
        if config != self._config:
            await self._conversation.configure(config)
            self._config = config

    def _session_config(self, session: RealtimeSession) -> SessionConfig:
        config = SessionConfig()
        config.CopyFrom(self._config)
        config.voice_id = session.voice
        prompt = "\n\n".join(text for text in (session.instructions, *self._items.system_texts()) if text)
        if prompt or config.HasField("system_prompt"):
            config.system_prompt = prompt
        if session.temperature is not None:
            config.sampling.temperature = session.temperature
        if session.max_output_tokens is not None:
            config.max_reply_s = session.max_output_tokens * FRAME_S
        elif config.HasField("max_reply_s"):
            config.max_reply_s = self._backend.settings.max_reply_s
        return config

    async def _append(self, event: dict[str, Any]) -> None:
        await self._conversation.append_audio(decode_audio(event.get("audio"), self._session.input_format, "audio"))

    async def _commit(self, event: dict[str, Any]) -> None:
        turn_id = self._conversation.end_audio()
        if not turn_id:
            raise BadParameter("type", "the input audio buffer is empty", "input_audio_buffer_commit_empty")
        await self._send(self._committed(turn_id))

    async def _clear(self, event: dict[str, Any]) -> None:
        await self._conversation.drop_audio()
        self._audio_item_id = ""
        await self._send([self._events.event("input_audio_buffer.cleared")])

    async def _create_item(self, event: dict[str, Any]) -> None:
        wanted = ItemCreate.model_validate(event)
        if wanted.previous_item_id not in (None, self._items.last_id or "root"):
            message = "items can only be added at the end of the conversation"
            raise BadParameter("previous_item_id", message, "unsupported_position")
        item = Item(
            wanted.item.id or new_item_id(), wanted.item.role, wanted.item.content_dicts(beta=self._events.beta)
        )
        before = self._items.add(item)
        try:
            item.turn_id = await self._add_input(wanted.item)
        except ChromaError:
            self._items.drop(item)
            raise
        await self._send([*self._events.added(item.to_dict(), before), *self._events.done(item.to_dict(), before)])

    async def _add_input(self, item: ItemIn) -> str:
        """Put an item's content into the conversation. Return the id of its turn; empty for a system item."""
        if item.role == "system":
            await self._store_settings()
            return ""
        if item.role == "assistant":
            return await self._conversation.inject_reply("".join(part.words for part in item.content))
        turn_id = ""
        for index, part in enumerate(item.content):
            if part.audio is not None:
                audio = decode_audio(part.audio, self._session.input_format, f"item.content.{index}.audio")
                turn_id = self._conversation.add_recording(audio)
            else:
                turn_id = self._conversation.add_text(part.words)
        return turn_id

    async def _retrieve_item(self, event: dict[str, Any]) -> None:
        item = self._items.get(ItemReference.model_validate(event).item_id, "retrieve")
        await self._send([self._events.event("conversation.item.retrieved", item=item.to_dict())])

    async def _truncate_item(self, event: dict[str, Any]) -> None:
        wanted = ItemTruncate.model_validate(event)
        item = self._items.get(wanted.item_id, "truncate")
        if item.role != "assistant":
            raise BadParameter("item_id", "only replies can be truncated", "item_truncate_invalid_item_id")
        if (reply := self._replies.get(item.turn_id)) is not None:
            reply.cancelled_by = "client_cancelled"
        await self._conversation.cancel(wanted.audio_end_ms, item.turn_id)
        heard = "".join(text for start_ms, text in item.spoken if start_ms < wanted.audio_end_ms)
        item.content = [reply_content(heard, text_only=False, beta=self._events.beta)]
        item.status = "incomplete"
        fields = {"item_id": item.item_id, "content_index": 0, "audio_end_ms": wanted.audio_end_ms}
        await self._send([self._events.event("conversation.item.truncated", **fields)])

    async def _delete_item(self, event: dict[str, Any]) -> None:
        item = self._items.get(ItemReference.model_validate(event).item_id, "delete")
        if item.role == "user" and len(self._items.of_turn(item.turn_id, "user")) > 1:
            raise BadParameter("item_id", "the item is one of several of one turn", "item_delete_unsupported")
        self._items.drop(item)
        if item.role == "system":
            await self._store_settings()
        else:
            await self._conversation.remove(item.turn_id, user=item.role == "user")
        await self._send([self._events.event("conversation.item.deleted", item_id=item.item_id)])

    async def _respond(self, event: dict[str, Any]) -> None:
        wanted = ResponseCreate.model_validate(event).response
        if self._conversation.is_replying:
            message = "Conversation already has an active response in progress"
            raise BadParameter("type", message, "conversation_already_has_active_response")
        session = self._session.updated(wanted.as_session())
        if session.voice != self._session.voice:
            session = replace(session, voice=await choose_voice(self._backend, self._tenant, session.voice))
        if turn_id := self._conversation.end_audio():
            await self._send(self._committed(turn_id))
        elif not self._conversation.has_input and wanted.instructions:
            self._conversation.add_text(wanted.instructions)
        change = self._session_config(session) if session != self._session else None
        self._metadata, self._reply_session = wanted.metadata, session
        self._conversation.set_options(session.options)
        try:
            await self._conversation.commit(change)
        finally:
            self._conversation.set_options(self._session.options)

    async def _cancel(self, event: dict[str, Any]) -> None:
        reply, response_id = next(reversed(self._replies.values()), None), event.get("response_id")
        if not self._conversation.is_replying or (reply and response_id not in (None, reply.response_id)):
            message = "Cancellation failed: no active response found"
            raise BadParameter("response_id", message, "response_cancel_not_active")
        if reply is not None:
            reply.cancelled_by = "client_cancelled"
        await self._conversation.cancel()

    # Server events.

    async def _deliver(self, event: Event) -> None:
        match event:
            case Opened():
                await self._send_session("session.created")
            case SpeechStarted():
                self._audio_item_id = new_item_id()
                fields = {"audio_start_ms": event.audio_ms, "item_id": self._audio_item_id}
                await self._send([self._events.event("input_audio_buffer.speech_started", **fields)])
            case SpeechStopped():
                fields = {"audio_end_ms": event.audio_ms, "item_id": self._audio_item_id}
                stopped = self._events.event("input_audio_buffer.speech_stopped", **fields)
                await self._send([stopped, *self._committed(event.turn_id)])
            case TurnStarted():
                session, metadata = self._reply_session or self._session, self._metadata
                self._metadata = self._reply_session = None
                reply = Reply(event.turn_id, session, metadata, self._items, self._events)
                self._replies[event.turn_id] = reply
                await self._send(reply.created())
            case TextDelta():
                await self._send(self._replies[event.turn_id].text(event))
            case AudioDelta():
                await self._send(self._replies[event.turn_id].audio(event))
            case TurnDone():
                await self._send(self._replies.pop(event.turn_id).done(event))
            case UserTranscript():
                await self._send(self._transcript(event))
            case _:
                raise AssertionError(f"an event of a turn that has not started: {event}")

    async def _send_session(self, kind: str) -> None:
        limit_s = self._backend.settings.conversation_limit_s
        to_dict = self._session.to_beta_dict if self._events.beta else self._session.to_dict
        await self._send([self._events.event(kind, session=to_dict(limit_s))])

    def _committed(self, turn_id: str) -> list[dict[str, Any]]:
        """The events that announce that the input audio buffer became an item."""
        content = [{"type": "input_audio", "transcript": None}]
        item = Item(self._audio_item_id or new_item_id(), "user", content, turn_id)
        self._audio_item_id = ""
        before = self._items.add(item)
        fields = {"previous_item_id": before, "item_id": item.item_id}
        committed = self._events.event("input_audio_buffer.committed", **fields)
        item_dict = item.to_dict()
        return [committed, *self._events.added(item_dict, before), *self._events.done(item_dict, before)]

    def _transcript(self, event: UserTranscript) -> list[dict[str, Any]]:
        """The events of the user's transcript. It belongs to the first item with audio of its turn."""
        items = [item for item in self._items.of_turn(event.turn_id, "user") if item.content[0].get("text") is None]
        if not items:
            return []
        kind, place = "conversation.item.input_audio_transcription", {"item_id": items[0].item_id, "content_index": 0}
        if event.error is not None:
            error = {**error_detail(event.error), "param": None}
            return [self._events.event(f"{kind}.failed", **place, error=error)]
        items[0].content = [{"type": "input_audio", "transcript": event.text}]
        usage = {"type": "duration", "seconds": 0.0}
        return [
            self._events.event(f"{kind}.delta", **place, delta=event.text),
            self._events.event(f"{kind}.completed", **place, transcript=event.text, usage=usage),
        ]

    async def _send(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if self._socket.client_state is not WebSocketState.CONNECTED:
                raise WebSocketDisconnect
            await self._socket.send_text(json.dumps(event, ensure_ascii=False, separators=(",", ":")))
