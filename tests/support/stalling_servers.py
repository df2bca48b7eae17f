"""Servers on real sockets that stall on purpose: a gateway over gRPC, and a server with the Realtime API."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from websockets import ConnectionClosed
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from chroma.v1 import audio_pb2, dialogue_pb2
from tests.support.fake_gateway import FakeGateway, serving
from tests.support.scripted_target import tone


@dataclass(frozen=True)
class Stalls:
    """What each reply does: before each piece of `piece_s` seconds of sound the server waits so many seconds."""

    waits_s: Sequence[float] = (0.0,)
    piece_s: float = 0.5
    connect_s: float = 0.0

    def piece(self) -> bytes:
        """The sound of one piece."""
        return tone(self.piece_s)


class StallingGateway(FakeGateway):
    """A gateway whose replies stall."""

    def __init__(self, stalls: Stalls) -> None:
        super().__init__()
        self.stalls = stalls
        self.page = 100
        self._turns = 0

    async def _opened(self, opening: Any, context: Any) -> dialogue_pb2.ConverseResponse:
        await asyncio.sleep(self.stalls.connect_s)
        return await super()._opened(opening, context)

    async def _reply(self, context: Any) -> AsyncIterator[dialogue_pb2.ConverseResponse]:
        self._turns += 1
        turn_id = f"turn-{self._turns}"
        yield dialogue_pb2.ConverseResponse(turn_started=dialogue_pb2.TurnStarted(turn_id=turn_id))
        for wait_s in self.stalls.waits_s:
            await asyncio.sleep(wait_s)
            pcm = audio_pb2.Pcm(data=self.stalls.piece())
            yield dialogue_pb2.ConverseResponse(audio=dialogue_pb2.AudioDelta(turn_id=turn_id, pcm=pcm))
        done = dialogue_pb2.TurnDone(turn_id=turn_id, outcome=dialogue_pb2.TURN_OUTCOME_COMPLETED)
        yield dialogue_pb2.ConverseResponse(turn_done=done)


class StallingRealtime:
    """A server of OpenAI's Realtime API whose replies stall. It wants `api_key`, if there is one."""

    def __init__(self, stalls: Stalls, api_key: str = "") -> None:
        self.stalls = stalls
        self.api_key = api_key
        self.received: list[dict[str, Any]] = []
        self.refusal: dict[str, str] | None = None
        """The error that answers `session.update`."""
        self.paths: list[str] = []

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a wrong key and a wrong path before the upgrade."""
        self.paths.append(request.path)
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            body = json.dumps({"error": {"message": "no such key"}})
            return connection.respond(HTTPStatus.UNAUTHORIZED, body)
        if not request.path.startswith("/v1/realtime"):
            return connection.respond(HTTPStatus.NOT_FOUND, "nothing here")
        return None

    async def handle(self, socket: ServerConnection) -> None:
        """Answer one connection."""
        await asyncio.sleep(self.stalls.connect_s)
        running: asyncio.Task[None] | None = None
        number = 0
        await self._send(socket, "session.created", session={})
        try:
            async for message in socket:
                event = json.loads(message)
                self.received.append(event)
                match event["type"]:
                    case "session.update" if self.refusal is not None:
                        await self._send(socket, "error", error=self.refusal)
                    case "session.update":
                        await self._send(socket, "session.updated", session=event["session"])
                    case "response.create":
                        number += 1
                        running = asyncio.create_task(self._reply(socket, f"resp_{number}"))
                    case "response.cancel" if running is not None and not running.done():
                        running.cancel()
                        await self._done(socket, f"resp_{number}", "cancelled")
        except ConnectionClosed:
            pass
        finally:
            if running is not None:
                running.cancel()

    async def _reply(self, socket: ServerConnection, response_id: str) -> None:
        await self._send(socket, "response.created", response={"id": response_id})
        for wait_s in self.stalls.waits_s:
            await asyncio.sleep(wait_s)
            delta = base64.b64encode(self.stalls.piece()).decode()
            ids = {"response_id": response_id, "item_id": f"item_{response_id}"}
            await self._send(socket, "response.output_audio.delta", delta=delta, **ids)
        await self._done(socket, response_id, "completed")

    async def _done(self, socket: ServerConnection, response_id: str, status: str) -> None:
        await self._send(socket, "response.done", response={"id": response_id, "status": status})

    async def _send(self, socket: ServerConnection, kind: str, **fields: Any) -> None:
        try:
            await socket.send(json.dumps({"type": kind, **fields}))
        except ConnectionClosed:
            return


@asynccontextmanager
async def stalling_gateway(stalls: Stalls) -> AsyncIterator[str]:
    """Serve a gateway that stalls. Yields its address."""
    async with serving(StallingGateway(stalls)) as address:
        yield address


@asynccontextmanager
async def stalling_realtime(server: StallingRealtime) -> AsyncIterator[str]:
    """Serve a Realtime API that stalls. Yields its URL."""
    async with serve(server.handle, "127.0.0.1", 0, process_request=server.check) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/v1/realtime"
