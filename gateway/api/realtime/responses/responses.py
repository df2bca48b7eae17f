"""The responses of one Realtime connection: the client's wishes, and the events of the turns that they become."""

from __future__ import annotations

from typing import Any

from gateway.access.quotas import Quota
from gateway.api.errors import BadParameter
from gateway.api.field_errors import fit
from gateway.api.http.rate_limits import rate_limits
from gateway.api.realtime.context import ConnectionContext
from gateway.api.realtime.events.client_events import ResponseCreate, ResponseIn
from gateway.api.realtime.events.wire import Events
from gateway.api.realtime.items.items import response_id
from gateway.api.realtime.items.playback import Playback
from gateway.api.realtime.responses.out_of_band import OutOfBand
from gateway.api.realtime.responses.reply import Reply
from gateway.api.realtime.responses.response_input import ResponseInput
from gateway.api.realtime.session.session import RealtimeSession
from gateway.conversation.conversation import Conversation
from gateway.conversation.output.events import Event, TurnDone, TurnStarted
from gateway.pipeline.deltas import AudioDelta, TextDelta, ToolCallMade
from gateway.store.records import TurnRecord


class Responses:
    """The replies of one connection whose `response.done` was not sent."""

    def __init__(
        self,
        context: ConnectionContext,
        playback: Playback,
        response_input: ResponseInput,
        out_of_band: OutOfBand,
    ) -> None:
        self._context = context
        self._playback = playback
        self._input = response_input
        self._out_of_band = out_of_band
        self._outside: dict[str, Conversation] = {}
        """The conversation of each running response outside this one, by the id of the response."""
        self._replies: dict[str, Reply] = {}
        """By turn id, the newest last."""
        self._metadata: dict[str, str] | None = None
        """Metadata of the response that the client asked for and that has not started."""
        self._session: RealtimeSession | None = None
        """Settings of that response. None: the session's."""
        self._quotas: tuple[str, list[Quota]] = ("", [])
        """The last turn that was counted, until the client knows it, and what is then left of the caller's limits."""

    async def create(self, event: dict[str, Any]) -> None:
        """Handle `response.create`."""
        wanted = fit(event, ResponseCreate).response
        if self._context.settings.session.type == "transcription":
            message = "a transcription session has no responses"
            raise BadParameter("type", message, "response_not_in_session")
        turns, system_texts = None, None
        if wanted.input is not None:
            turns, system_texts = await self._input.turns(wanted.input)
        if wanted.conversation == "none":
            await self._create_outside(wanted, turns, system_texts)
            return
        if self._context.conversation.is_replying:
            message = "Conversation already has an active response in progress"
            raise BadParameter("type", message, "conversation_already_has_active_response")
        session, config = await self._context.settings.of_response(wanted.as_session(), system_texts)
        self._metadata, self._session = wanted.metadata, session
        self._context.conversation.set_options(session.options)
        try:
            change = config if self._context.settings.changes(config) else None
            await self._context.conversation.respond(change, history=turns)
        finally:
            self._context.conversation.set_options(self._context.settings.session.options)

    async def _create_outside(
        self, wanted: ResponseIn, turns: tuple[TurnRecord, ...] | None, system_texts: list[str] | None
    ) -> None:
        """Begin a response outside the conversation: to the turns of its input, or to the conversation so far."""
        session, config = await self._context.settings.of_response(wanted.as_session(), system_texts)
        if turns is None:
            turns = self._context.conversation.history.with_input()

        async def deliver(event: Event) -> None:
            self._context.conversation.touch()
            if isinstance(event, TurnStarted):
                self._outside[response_id(event.turn_id)] = conversation
                await self._start(Reply(event.turn_id, session, wanted.metadata, None, self._context.events))
            elif isinstance(event, TextDelta | AudioDelta | ToolCallMade | TurnDone):
                if isinstance(event, TurnDone):
                    self._outside.pop(response_id(event.turn_id), None)
                await self.deliver(event)

        conversation = self._out_of_band.begin(config, session.options, turns, deliver)

    async def cancel(self, event: dict[str, Any]) -> None:
        """Handle `response.cancel`."""
        cancelled = event.get("response_id")
        if isinstance(cancelled, str) and (outside := self._outside.get(cancelled)) is not None:
            await outside.cancel()
            return
        inside = [reply for reply in self._replies.values() if reply.response_id not in self._outside]
        reply = inside[-1] if inside else None
        if not self._context.conversation.is_replying or (reply and cancelled not in (None, reply.response_id)):
            message = "Cancellation failed: no active response found"
            raise BadParameter("response_id", message, "response_cancel_not_active")
        await self._context.conversation.cancel()

    async def clear(self, event: dict[str, Any]) -> None:
        """Handle `output_audio_buffer.clear`."""
        self._playback.check()
        await self._context.conversation.stop_playing()

    async def deliver(self, event: TurnStarted | TextDelta | AudioDelta | ToolCallMade | TurnDone) -> None:
        """Send the events of a turn."""
        match event:
            case TurnStarted():
                session, metadata = self._session or self._context.settings.session, self._metadata
                self._metadata = self._session = None
                await self._start(Reply(event.turn_id, session, metadata, self._context.items, self._context.events))
            case TextDelta():
                await self._continue(event.turn_id, self._replies[event.turn_id].text(event))
            case AudioDelta():
                await self._continue(event.turn_id, self._replies[event.turn_id].audio(event))
                await self._playback.play(event)
            case ToolCallMade():
                await self._continue(event.turn_id, self._replies[event.turn_id].tool_call(event))
            case TurnDone():
                await self._continue(event.turn_id, self._replies.pop(event.turn_id).done(event))
                await self._playback.finish(event.turn_id)

    async def _start(self, reply: Reply) -> None:
        reply.audio_events = not self._playback.is_on
        self._replies[reply.turn_id] = reply
        await self._context.send([*reply.created(), *self._rate_limits(reply.turn_id)])

    async def _continue(self, turn_id: str, events: Events) -> None:
        """Send the next events of a reply."""
        await self._context.send([*self._rate_limits(turn_id), *events])

    def counted(self, turn_id: str, quotas: list[Quota]) -> None:
        """Note that a turn was counted, and what is left of the caller's limits."""
        self._quotas = turn_id, quotas

    def _rate_limits(self, turn_id: str) -> Events:
        """The event that tells what is left of the limits: once for each turn, when the turn is counted."""
        counted, quotas = self._quotas
        if counted != turn_id:
            return []
        self._quotas = "", []
        return [self._context.events.event("rate_limits.updated", rate_limits=rate_limits(quotas))]
