"""A proxy that ends TLS in front of a server which speaks plain TCP, such as the Valkey of the tests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.tasks import cancel


@asynccontextmanager
async def tls_proxy(port: int, files: Path) -> AsyncIterator[int]:
    """Serve TLS with the certificate in `files` (tests/support/certificates.py) and pass all bytes on to `port`.

    A caller has to show a certificate of the same authority. Yields the port.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "tls.crt", files / "tls.key")
    context.load_verify_locations(files / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    relays: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        for source, target in ((reader, inner_writer), (inner_reader, writer)):
            relays.add(asyncio.create_task(relay(source, target)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await cancel(*relays)
