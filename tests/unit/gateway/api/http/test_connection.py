"""The limits of a connection of the HTTP server, with clients on raw sockets that behave badly."""

from __future__ import annotations

import asyncio
import json
import ssl
from asyncio import StreamWriter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.client import connect

from gateway.api.http.headers import SECURITY_HEADERS
from gateway.api.http.limits import OpenConnections
from gateway.processes.shared_counts import HTTP_CONNECTIONS
from gateway.tasks import cancel
from tests.support.certificates import write_pair
from tests.support.http_connections import GET, PATIENCE_S, UPGRADE, connection, rest, serving
from tests.support.process_counts import counts_of


@asynccontextmanager
async def _trickling(writer: StreamWriter, piece: bytes) -> AsyncIterator[None]:
    """Send a piece every 0.1 s meanwhile."""

    async def trickle() -> None:
        while True:
            writer.write(piece)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(trickle())
    try:
        yield
    finally:
        await cancel(task)


def _error(answer: bytes) -> tuple[int, str]:
    """The status and the error's code of a response, which has all security headers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers.items() >= SECURITY_HEADERS.items()
    return int(status.split()[1]), json.loads(body)["error"]["code"]


# Clients that send too slowly.


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET[:-2]])
async def test_a_request_head_that_does_not_end_is_cut_off(sent: bytes) -> None:
    async with serving() as (_, port), connection(port) as (reader, writer):
        writer.write(sent)
        assert _error(await rest(reader)) == (408, "request_timeout")


async def test_a_byte_from_time_to_time_does_not_prolong_the_head() -> None:
    async with serving() as (_, port), connection(port) as (reader, writer):
        async with _trickling(writer, b"x"):
            answer = await rest(reader)
        assert answer == b"" or _error(answer) == (408, "request_timeout")


@pytest.mark.parametrize("framing", [b"content-length: 1000000", b"transfer-encoding: chunked"])
async def test_a_body_of_a_byte_a_moment_is_cut_off_and_its_request_ends(framing: bytes) -> None:
    async with serving() as (application, port), connection(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: localhost\r\n" + framing + b"\r\n\r\n")
        await application.until_busy()
        async with _trickling(writer, b"1\r\nx\r\n" if b"chunked" in framing else b"x"):
            await application.until_free()
            answer = await rest(reader)
        assert answer == b"" or _error(answer) == (408, "request_timeout")


@pytest.mark.slow  # it takes longer than the head may
async def test_a_body_that_comes_fast_enough_may_take_longer_than_the_head() -> None:
    async with serving(http_min_rate=1_000) as (_, port), connection(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 24000\r\n\r\n")
        for _ in range(12):
            writer.write(bytes(2_000))
            await asyncio.sleep(PATIENCE_S / 4)
        assert (await rest(reader)).endswith(b"24000")


async def test_a_trickle_after_an_early_answer_does_not_keep_the_connection() -> None:
    async with serving() as (_, port), connection(port) as (reader, writer):
        writer.write(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n")
        assert b" 404 " in await reader.readline()
        async with _trickling(writer, b"x"):
            await rest(reader)


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with serving(http_idle_s=1) as (_, port), connection(port) as (reader, writer):
        writer.write(GET)
        assert (await rest(reader)).endswith(b"\r\n\r\n0")


# Clients that do not read.


async def test_a_client_that_stops_reading_a_stream_is_cut_off_and_the_stream_ends() -> None:
    async with serving() as (application, port), connection(port) as (_, writer):
        writer.write(GET.replace(b" / ", b" /stream?pieces=1000 "))
        await application.until_busy()
        await application.until_free()


@pytest.mark.slow  # it reads for longer than a client may stop
async def test_a_client_that_reads_steadily_is_not_cut_off() -> None:
    async with serving() as (application, port), connection(port) as (reader, writer):
        writer.write(GET.replace(b" / ", b" /stream?pieces=60 ").replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        received = 0
        while piece := await reader.read(65_536):
            received += len(piece)
            await asyncio.sleep(len(piece) / 1_500_000)  # 4 s in all
        assert received > 60 * 100_000
        await application.until_free()


async def test_a_client_that_takes_no_end_of_a_response_does_not_keep_its_connection() -> None:
    """The whole response lies in the buffers, so that the application has ended."""
    async with serving(http_connections=1) as (application, port), connection(port) as (_, writer):
        writer.write(GET.replace(b" / ", b" /stream?pieces=4 ").replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        await application.until_busy()
        await _served_again(port)


# The same over TLS.


@pytest.mark.slow  # three limits in time, one after the other
async def test_over_tls_silent_clients_and_clients_that_do_not_read_are_cut_off(tmp_path: Path) -> None:
    authority = trustme.CA()
    write_pair(tmp_path, authority, "localhost")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    files = {"http_tls_cert": tmp_path / "tls.crt", "http_tls_key": tmp_path / "tls.key"}
    async with serving(**files) as (application, port):
        async with connection(port) as (reader, _):  # no handshake
            assert await rest(reader) == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="localhost")
        assert _error(await rest(reader)) == (408, "request_timeout")
        writer.close()
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="localhost", limit=8_192
        )
        writer.write(GET.replace(b" / ", b" /stream?pieces=1000 "))
        await application.until_busy()
        await application.until_free()
        writer.transport.abort()


# Heads.


@pytest.mark.parametrize(
    "head",
    [
        UPGRADE + b"x: " + b"a" * 10_000 + b"\r\n\r\n",
        UPGRADE + b"".join(b"x-%d: a\r\n" % n for n in range(200)) + b"\r\n",
        UPGRADE.replace(b"sec-websocket-key", b"x") + b"\r\n",
        UPGRADE.replace(b"version: 13", b"version: 7") + b"\r\n",
        UPGRADE.replace(b"GET /socket", b"GET /" + b"a" * 9_000) + b"\r\n",
        UPGRADE.replace(b"GET", b"POST") + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n",
    ],
)
async def test_a_malformed_head_is_refused_with_the_security_headers(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as (_, port), connection(port) as (reader, writer):
        writer.write(head)
        answer = await rest(reader)
        assert answer.startswith(b"HTTP/1.1 4"), answer[:100]
        for name in SECURITY_HEADERS:
            assert b"\r\n" + name.encode() + b": " in answer
    assert "Traceback" not in caplog.text


# The number of connections.


async def _served_again(port: int) -> None:
    """Wait until the server has room for a connection."""
    while True:
        async with connection(port) as (reader, writer):
            writer.write(GET)
            answer = await reader.readline()
        if b" 200 " in answer:
            return
        assert b" 503 " in answer
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("limit", ["http_connections", "http_peer_connections"])
async def test_a_connection_beyond_the_limit_gets_503_and_one_that_ends_makes_room(limit: str) -> None:
    async with (
        serving(**{limit: 3, "http_head_s": 30}) as (application, port),
        connection(port),
        connection(port),
    ):
        async with connect(f"ws://127.0.0.1:{port}/socket") as client:  # an upgraded connection counts too
            await application.until_busy()
            async with connection(port) as (reader, writer):
                writer.write(GET)
                assert _error(await rest(reader)) == (503, "unavailable")
            await client.send("still served")
            assert await client.recv() == "still served"
        await _served_again(port)
        await _served_again(port)


async def test_more_refused_connections_than_the_server_answers_are_closed() -> None:
    async with serving(http_connections=1, http_head_s=30) as (_, port):
        async with connection(port), AsyncExitStack() as crowd:
            readers = [(await crowd.enter_async_context(connection(port)))[0] for _ in range(200)]
            for reader in readers:
                answer = await rest(reader)
                assert answer == b"" or _error(answer) == (503, "unavailable")
        await _served_again(port)


def test_a_peer_is_an_ipv4_address_or_an_ipv6_network() -> None:
    connections = OpenConnections(limit=10, limit_per_peer=1)
    assert connections.enter("192.0.2.1") == ""
    assert connections.enter("192.0.2.1") == "connections_of_peer"
    assert connections.enter("192.0.2.2") == ""
    assert connections.enter("2001:db8::1") == ""
    assert connections.enter("2001:db8::ffff:2") == "connections_of_peer"
    assert connections.enter("2001:db8:0:1::1") == ""
    connections.leave("2001:db8::1")
    assert connections.enter("2001:db8::ffff:2") == ""


def test_the_limit_of_connections_holds_for_several_processes() -> None:
    one, other = (OpenConnections(2, 2, counts[HTTP_CONNECTIONS]) for counts in counts_of(2))
    assert (one.enter("192.0.2.1"), other.enter("192.0.2.1")) == ("", "")
    assert one.enter("192.0.2.2") == "connections"
    other.leave("192.0.2.1")
    assert one.enter("192.0.2.2") == ""
