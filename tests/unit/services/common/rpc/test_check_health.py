"""The health check that container engines run, against a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.common.rpc.check_health import is_serving
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings


async def test_it_says_what_the_process_on_the_port_says() -> None:
    server = Server(ServiceSettings())
    settings = ServiceSettings(listen=f"0.0.0.0:{await server.start()}")
    assert not await asyncio.to_thread(is_serving, settings)
    await server.set_serving()
    assert await asyncio.to_thread(is_serving, settings)
    await server.set_stalled(True)
    assert not await asyncio.to_thread(is_serving, settings)
    await server.drain(0)
    assert not await asyncio.to_thread(is_serving, settings)


async def test_it_asks_a_unix_socket_too(tmp_path: Path) -> None:
    settings = ServiceSettings(listen=f"unix:{tmp_path}/s")
    server = Server(settings)
    await server.start()
    await server.set_serving()
    assert await asyncio.to_thread(is_serving, settings)
    await server.drain(0)
