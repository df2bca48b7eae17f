"""The HTTP server: its port, and how it drains."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.api.http.server import HttpServer
from gateway.settings import GatewaySettings
from services.common.errors import BadSetting, FailedPrecondition


class HeldRequests:
    """An application that answers once `leave` is set. `entered` is set by the first request."""

    def __init__(self) -> None:
        self.entered, self.leave = asyncio.Event(), asyncio.Event()
        self.app = Starlette(routes=[Route("/", self._answer)])

    async def _answer(self, request: Request) -> PlainTextResponse:
        self.entered.set()
        await self.leave.wait()
        return PlainTextResponse("done")


def _server(held: HeldRequests, listen: str = "127.0.0.1:0", *, share_port: bool = False) -> HttpServer:
    settings = GatewaySettings(
        reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1", http_listen=listen
    )
    return HttpServer(held.app, settings, share_port=share_port)


@asynccontextmanager
async def _running_request(server: HttpServer, held: HeldRequests) -> AsyncIterator[tuple[str, asyncio.Task[Any]]]:
    """The address of the server, and a request that its application has begun."""
    url = f"http://127.0.0.1:{await server.start()}/"
    async with asyncio.timeout(30), httpx.AsyncClient() as http:
        running = asyncio.create_task(http.get(url))
        await held.entered.wait()
        yield url, running


async def test_a_drain_refuses_new_connections_and_waits_for_the_running_request() -> None:
    held = HeldRequests()
    server = _server(held)
    async with _running_request(server, held) as (url, running):
        draining = asyncio.create_task(server.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient() as other:
                await other.get(url)
        assert not running.done()
        held.leave.set()
        assert (await running).text == "done"
        await draining


async def test_connections_send_small_events_at_once() -> None:
    held = HeldRequests()
    server = _server(held)
    async with _running_request(server, held) as (_, running):
        (connection,) = server._server.server_state.connections
        connected = cast(Any, connection).transport.get_extra_info("socket")
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        held.leave.set()
        await running
    await server.drain(0)


async def test_a_second_drain_ends_the_wait_of_the_first() -> None:
    held = HeldRequests()
    server = _server(held)
    async with _running_request(server, held) as (_, running):
        draining = asyncio.create_task(server.drain(60))
        await asyncio.sleep(0)
        await server.drain(60)
        await draining
        await asyncio.wait([running])
        running.exception()  # what the client of the cancelled request reads is uvicorn's choice


async def test_a_drain_waits_for_what_a_cancelled_request_still_has_to_do() -> None:
    held, cleaning, may_end = HeldRequests(), asyncio.Event(), asyncio.Event()
    wait = held.leave.wait

    async def wait_and_clean_up() -> Any:
        try:
            return await wait()
        finally:
            cleaning.set()
            await may_end.wait()

    held.leave.wait = wait_and_clean_up  # type: ignore[method-assign]
    server = _server(held)
    server._server.config.timeout_graceful_shutdown = 0
    async with _running_request(server, held) as (_, running):
        serving = server._serving
        draining = asyncio.create_task(server.drain(0))
        await cleaning.wait()
        assert serving is not None
        await asyncio.wait([serving])  # uvicorn has ended
        for _ in range(10):
            await asyncio.sleep(0)
        assert not draining.done()
        may_end.set()
        await draining
        await asyncio.wait([running])
        running.exception()


async def test_a_taken_address_is_named() -> None:
    first = _server(HeldRequests())
    port = await first.start()
    try:
        with pytest.raises(FailedPrecondition, match=f"cannot listen on 127.0.0.1:{port}"):
            await _server(HeldRequests(), f"127.0.0.1:{port}").start()
    finally:
        await first.drain(0)


async def test_two_servers_share_a_port_when_they_are_told_to() -> None:
    first = _server(HeldRequests(), share_port=True)
    address = f"127.0.0.1:{await first.start()}"
    second = _server(HeldRequests(), address, share_port=True)
    await second.start()
    with pytest.raises(FailedPrecondition):
        await _server(HeldRequests(), address).start()
    for server in (first, second):
        await server.drain(0)


@pytest.mark.parametrize("text", ["no certificate", None], ids=["no PEM", "missing"])
async def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "tls.pem"
    if text is not None:
        file.write_text(text)
    settings = GatewaySettings(
        reasoner="a:1",
        speech_gen="b:1",
        codec="c:1",
        redis_url="redis://d:1",
        http_listen="127.0.0.1:0",
        http_tls_cert=file,
        http_tls_key=file,
    )
    with pytest.raises(BadSetting, match="the files of CHROMA_HTTP_TLS_CERT and CHROMA_HTTP_TLS_KEY cannot be used"):
        await HttpServer(HeldRequests().app, settings).start()
