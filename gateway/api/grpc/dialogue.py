"""DialogueService: the rpcs on sessions, and `Converse`, whose messages become inputs of a `Conversation`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1 import dialogue_pb2_grpc
from gateway.api.auth import call_caller
from gateway.api.grpc.messages import converse_response, erasure_message, session_message
from gateway.api.grpc.options import conversation_options, turn_detection
from gateway.api.grpc.reader import RequestReader
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.output.events import Event
from gateway.store.sessions import Session
from gateway.tasks import join
from services.common.errors import DeadlineExceeded, InvalidArgument, Unavailable
from services.common.rpc import context as call_context
from services.common.rpc.requests import kind_of, read_open, unexpected


class DialogueServicer(dialogue_pb2_grpc.DialogueServiceServicer):
    """The service that dialogue.proto specifies. When `closing` is set, conversations end after the running turn."""

    def __init__(self, backend: Backend, closing: asyncio.Event) -> None:
        self._backend = backend
        self._closing = closing

    async def CreateSession(self, request: pb.CreateSessionRequest, context: Any) -> pb.CreateSessionResponse:  # noqa: N802
        return pb.CreateSessionResponse(session=session_message(await self._create_session(request.config)))

    async def GetSession(self, request: pb.GetSessionRequest, context: Any) -> pb.GetSessionResponse:  # noqa: N802
        session = await self._backend.sessions.load(call_caller().tenant, request.session_id)
        return pb.GetSessionResponse(session=session_message(session))

    async def UpdateSession(self, request: pb.UpdateSessionRequest, context: Any) -> pb.UpdateSessionResponse:  # noqa: N802
        await self._backend.check_change(call_caller().tenant, request.config)
        config = await self._backend.sessions.configure(call_caller().tenant, request.session_id, request.config)
        session = await self._backend.sessions.load(call_caller().tenant, request.session_id)
        return pb.UpdateSessionResponse(session=session_message(replace(session, config=config)))

    async def DeleteSession(self, request: pb.DeleteSessionRequest, context: Any) -> pb.DeleteSessionResponse:  # noqa: N802
        erasure = await self._backend.eraser.session(call_caller(), request.session_id)
        return pb.DeleteSessionResponse(erasure=erasure_message(erasure))

    # A coroutine that writes to `context`, not a generator: its writes block when the client does not read.
    async def Converse(  # noqa: N802  # pyright: ignore[reportIncompatibleMethodOverride]
        self, request_iterator: AsyncIterator[pb.ConverseRequest], context: Any
    ) -> None:
        limit_s = self._backend.settings.open_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                opened = (await read_open(request_iterator)).open
        except TimeoutError:
            raise DeadlineExceeded(f"expected `open` within {limit_s:g} s, got nothing") from None
        async with self._backend.seat(call_caller()):
            await self._converse(opened, request_iterator, context)

    async def _converse(
        self, opened: pb.ConverseOpen, requests: AsyncIterator[pb.ConverseRequest], context: Any
    ) -> None:
        options = conversation_options(opened)
        if options.transcribe and not self._backend.settings.transcribe:
            raise InvalidArgument("expected no `transcribe`: this server does not transcribe")
        session = await self._session(opened)
        call_context.session_id.set(session.session_id)

        async def deliver(event: Event) -> None:
            await context.write(converse_response(event, options.output_encoding))

        conversation = Conversation(session, options, self._backend, call_caller(), deliver)
        # The metadata goes out before the first event: when a write that also sends it is cancelled, grpc cannot send
        # a status any more.
        await context.send_initial_metadata(())
        reader = RequestReader(requests, partial(_handle, conversation), conversation.handling)
        try:
            await join(self._read(conversation, reader), conversation.run())
            if self._closing.is_set():
                await reader.quiet()
                again = f"reconnect with session {session.session_id}" if session.session_id else "reconnect"
                raise Unavailable(f"the gateway is draining: {again}")
        finally:
            await reader.close()

    async def _session(self, opened: pb.ConverseOpen) -> Session:
        store = opened.store or not opened.HasField("store")
        match opened.WhichOneof("session"):
            case "session_id" if not store:
                raise InvalidArgument(
                    "expected `new_session` with `store` set to false: `session_id` names a stored one"
                )
            case "session_id":
                return await self._backend.sessions.load(call_caller().tenant, opened.session_id)
            case "new_session":
                return await self._create_session(opened.new_session, store=store)
            case _:
                raise InvalidArgument("expected `session_id` or `new_session` in `open`, got neither")

    async def _create_session(self, wanted: pb.SessionConfig, *, store: bool = True) -> Session:
        """Create a session. Without a voice it gets the caller's default voice."""
        config = pb.SessionConfig()
        config.CopyFrom(wanted)
        if not config.voice_id:
            config.voice_id = await self._backend.default_voice(call_caller().tenant)
        return await self._backend.create_session(call_caller(), config, store=store)

    async def _read(self, conversation: Conversation, reader: RequestReader) -> None:
        """Read messages until the client closes its side or the gateway closes; then finish the conversation."""
        drained = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((reader.reading, drained), return_when=asyncio.FIRST_COMPLETED)
        finally:
            drained.cancel()
            await asyncio.wait([drained])
        if reader.reading.done():
            reader.reading.result()
        await reader.drop()
        await conversation.finish()


async def _handle(conversation: Conversation, request: pb.ConverseRequest) -> None:
    """Handle one message of the client: one call of the conversation."""
    match kind_of(request):
        case "audio":
            await conversation.append_audio(request.audio)
        case "text":
            conversation.add_text(request.text)
        case "commit":
            await conversation.commit(may_be_empty=request.commit.allow_empty)
        case "cancel":
            cancel = request.cancel
            played_ms = cancel.played_ms if cancel.HasField("played_ms") else None
            await conversation.cancel(played_ms, cancel.turn_id)
        case "say":
            say = request.say
            await conversation.say(say.text, end=say.end, verbatim=say.verbatim, language=say.language)
        case "tool_result":
            conversation.tools.answer(request.tool_result.call_id, request.tool_result.output)
        case "update":
            await conversation.configure(request.update)
        case "turn_detection":
            detected = turn_detection(request.turn_detection)
            conversation.set_options(replace(conversation.options, turn_detection=detected))
        case kind:
            raise unexpected(kind, "a turn's message")
