"""DialogueService: sessions, and `Converse` message by message onto a `Conversation`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1 import dialogue_pb2_grpc
from gateway.api.auth import call_tenant as tenant
from gateway.api.grpc.messages import converse_response, session_message
from gateway.api.grpc.options import terms_of, turn_detection_of
from gateway.api.grpc.reader import RequestReader
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.events import Event
from gateway.conversation.options import ConversationOptions
from gateway.store.sessions import Session
from gateway.tasks import join
from services.common.errors import InvalidArgument, Unavailable
from services.common.rpc import context as call_context
from services.common.rpc.requests import kind_of, read_open, unexpected


class DialogueServicer(dialogue_pb2_grpc.DialogueServiceServicer):
    """The service as dialogue.proto specifies it. When `draining` is set, conversations end after the running turn."""

    def __init__(self, backend: Backend, draining: asyncio.Event) -> None:
        self._backend = backend
        self._draining = draining

    async def CreateSession(self, request: pb.CreateSessionRequest, context: Any) -> pb.CreateSessionResponse:  # noqa: N802
        return pb.CreateSessionResponse(
            session=session_message(await self._backend.create_session(tenant(), request.config))
        )

    async def GetSession(self, request: pb.GetSessionRequest, context: Any) -> pb.GetSessionResponse:  # noqa: N802
        session = await self._backend.sessions.load(tenant(), request.session_id)
        return pb.GetSessionResponse(session=session_message(session))

    async def UpdateSession(self, request: pb.UpdateSessionRequest, context: Any) -> pb.UpdateSessionResponse:  # noqa: N802
        await self._backend.check_change(tenant(), request.config)
        config = await self._backend.sessions.configure(tenant(), request.session_id, request.config)
        session = await self._backend.sessions.load(tenant(), request.session_id)
        return pb.UpdateSessionResponse(session=session_message(replace(session, config=config)))

    async def DeleteSession(self, request: pb.DeleteSessionRequest, context: Any) -> pb.DeleteSessionResponse:  # noqa: N802
        await self._backend.sessions.delete(tenant(), request.session_id)
        return pb.DeleteSessionResponse()

    # A coroutine that writes to `context`, so that the conversation can tell when the client takes nothing.
    async def Converse(  # noqa: N802  # pyright: ignore[reportIncompatibleMethodOverride]
        self, request_iterator: AsyncIterator[pb.ConverseRequest], context: Any
    ) -> None:
        with self._backend.seat():
            await self._converse(request_iterator, context)

    async def _converse(self, requests: AsyncIterator[pb.ConverseRequest], context: Any) -> None:
        opened = (await read_open(requests)).open
        terms = terms_of(opened)
        if terms.transcribe and not self._backend.settings.transcribe:
            raise InvalidArgument("expected no `transcribe`: this server does not transcribe")
        session = await self._session(opened)
        call_context.session_id.set(session.session_id)

        async def deliver(event: Event) -> None:
            await context.write(converse_response(event, terms.output_encoding))

        conversation = Conversation(session, terms, self._backend, deliver)
        incoming = RequestReader(requests, self._taker(conversation, terms))
        try:
            await join(self._listen(conversation, incoming), conversation.run())
            if self._draining.is_set():
                await incoming.quiet()
                raise Unavailable(f"the gateway is draining: reconnect with session {session.session_id}")
        finally:
            await incoming.close()

    async def _session(self, opened: pb.ConverseOpen) -> Session:
        match opened.WhichOneof("session"):
            case "session_id":
                return await self._backend.sessions.load(tenant(), opened.session_id)
            case "new_session":
                return await self._backend.create_session(tenant(), opened.new_session)
            case _:
                raise InvalidArgument("expected `session_id` or `new_session` in `open`, got neither")

    async def _listen(self, conversation: Conversation, incoming: RequestReader) -> None:
        """Let the conversation go on until the client closes its side or the gateway drains."""
        drained = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait((incoming.reading, drained), return_when=asyncio.FIRST_COMPLETED)
        finally:
            drained.cancel()
            await asyncio.wait([drained])
        if incoming.reading.done():
            incoming.reading.result()
        await incoming.drop()
        await conversation.finish()

    def _taker(
        self, conversation: Conversation, terms: ConversationOptions
    ) -> Callable[[pb.ConverseRequest], Awaitable[None]]:
        """What a message of the client does to the conversation."""

        async def take(request: pb.ConverseRequest) -> None:
            nonlocal terms
            match kind_of(request):
                case "audio":
                    await conversation.audio(request.audio)
                case "text":
                    conversation.text(request.text)
                case "commit":
                    await conversation.commit()
                case "cancel":
                    cancel = request.cancel
                    played_ms = cancel.played_ms if cancel.HasField("played_ms") else None
                    await conversation.cancel(played_ms, cancel.turn_id)
                case "say":
                    await conversation.say(request.say.text, end=request.say.end)
                case "update":
                    await self._backend.check_change(tenant(), request.update)
                    await conversation.update(request.update)
                case "turn_detection":
                    terms = replace(terms, turn_detection=turn_detection_of(request.turn_detection))
                    conversation.listen(terms)
                case kind:
                    raise unexpected(kind, "a turn's message")

        return take
