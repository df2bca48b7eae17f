"""Commands of `chroma-voice`, run against a fake gateway."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from typer.testing import CliRunner, Result

from chroma_voice.cli import app
from tests.support.fake_gateway import FakeGateway, serving


def run(gateway: FakeGateway, *arguments: str | Path, **variables: str) -> Result:
    """Run the command `chroma-voice ARGUMENTS --gateway ADDRESS` with these environment variables."""
    with in_background(gateway) as address:
        return CliRunner().invoke(app, [*map(str, arguments), "--gateway", address], env=variables)


@contextmanager
def in_background(gateway: FakeGateway, credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    """Serve `gateway` on the event loop of another thread, because a command runs a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = serving(gateway, credentials)
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
