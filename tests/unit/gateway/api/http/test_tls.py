"""The HTTP server's certificates: renewed without a restart, and nothing older than TLS 1.2."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from gateway.api.http.tls import renewing_context
from tests.support.certificates import write_pair


@asynccontextmanager
async def serving(files: Path) -> AsyncIterator[int]:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    context = renewing_context(files / "tls.crt", files / "tls.key")
    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def shown_serial(port: int, *, name: str | None = "localhost", version: ssl.TLSVersion | None = None) -> int:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


def serial(files: Path) -> int:
    return x509.load_pem_x509_certificates((files / "tls.crt").read_bytes())[0].serial_number


@pytest.mark.parametrize("name", ["localhost", ""])
async def test_a_renewed_certificate_is_shown_to_the_next_connection(tmp_path: Path, name: str) -> None:
    write_pair(tmp_path, trustme.CA(), "localhost")
    async with serving(tmp_path) as port:
        first = serial(tmp_path)
        assert await shown_serial(port, name=name) == first
        write_pair(tmp_path, trustme.CA(), "localhost")
        assert await shown_serial(port, name=name) == serial(tmp_path) != first


async def test_a_broken_renewal_leaves_the_last_certificate_in_use(tmp_path: Path) -> None:
    write_pair(tmp_path, trustme.CA(), "localhost")
    first = serial(tmp_path)
    async with serving(tmp_path) as port:
        (tmp_path / "tls.crt").write_text("half a file")
        assert await shown_serial(port) == first
        (tmp_path / "tls.crt").unlink()
        assert await shown_serial(port) == first
        write_pair(tmp_path, trustme.CA(), "localhost")
        assert await shown_serial(port) == serial(tmp_path)


async def test_a_bad_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("half a file")
    (tmp_path / "tls.key").write_text("half a file")
    with pytest.raises(OSError):  # noqa: PT011  # OpenSSL's own text
        renewing_context(tmp_path / "tls.crt", tmp_path / "tls.key")


async def test_nothing_older_than_tls_1_2_is_spoken(tmp_path: Path) -> None:
    write_pair(tmp_path, trustme.CA(), "localhost")
    async with serving(tmp_path) as port:
        assert await shown_serial(port, version=ssl.TLSVersion.TLSv1_2) == serial(tmp_path)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shown_serial(port, version=ssl.TLSVersion.TLSv1_1)
