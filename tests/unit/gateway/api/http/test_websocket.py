"""WebSockets of the HTTP server: pings, messages, and clients on raw sockets that behave badly."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.http_connections import UPGRADE, connection, rest, serving

_PINGS = {"websocket_ping_s": 0.1, "websocket_pong_s": 0.2}
_CLOSE, _PING = 0x88, 0x89


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The first byte and the payload of the server's next frame."""
    first, length = await reader.readexactly(2)
    return first, await reader.readexactly(length)


def _masked(first: int, payload: bytes) -> bytes:
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


async def test_a_client_that_answers_no_ping_is_closed_and_its_request_ends() -> None:
    async with serving(**_PINGS) as (application, port), connection(port) as (reader, writer):
        writer.write(UPGRADE + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert (await _frame(reader))[0] == _PING
        first, payload = await _frame(reader)
        assert (first, struct.unpack("!H", payload[:2])[0]) == (_CLOSE, 1011)
        assert await reader.read() == b""
        await application.until_free()


async def test_a_client_that_answers_pings_or_sends_anything_is_kept() -> None:
    async with serving(**_PINGS) as (application, port), connection(port) as (reader, writer):
        writer.write(UPGRADE + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for answer in [True] * 4 + [False] * 4:
            first, payload = await _frame(reader)
            while first != _PING:
                first, payload = await _frame(reader)
            writer.write(_masked(0x8A, payload) if answer else _masked(0x81, b"hello"))
        assert application.open == 1


async def test_a_client_whose_message_the_application_has_not_read_is_kept() -> None:
    async with serving(**_PINGS) as (application, port), connection(port) as (reader, writer):
        application.read_next.clear()
        writer.write(UPGRADE + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_masked(0x81, b"one") + _masked(0x81, b"two"))
        for _ in range(4):
            assert (await _frame(reader))[0] == _PING
        application.read_next.set()
        texts = []
        while len(texts) < 2:
            first, payload = await _frame(reader)
            if first == 0x81:
                texts.append(payload)
            else:
                writer.write(_masked(0x8A, payload))
        assert texts == [b"one", b"two"]


async def test_a_websocket_that_stops_reading_is_cut_off() -> None:
    async with serving() as (application, port), connection(port) as (_, writer):
        writer.write(UPGRADE + b"\r\n")
        await application.until_busy()
        writer.write(_client_frame(b"flood"))
        await application.until_free()


@pytest.mark.slow  # the buffers of the system are filled first
async def test_pings_whose_answers_are_not_read_are_not_read_either() -> None:
    async with serving(slow_client_s=3) as (application, port), connection(port) as (_, writer):
        writer.write(UPGRADE + b"\r\n")
        await application.until_busy()
        ping = _client_frame(bytes(120), opcode=0x89) * 10_000
        sent = 0
        with suppress(ConnectionResetError, BrokenPipeError, TimeoutError):
            async with asyncio.timeout(2):
                while True:
                    writer.write(ping)
                    await writer.drain()
                    sent += len(ping)
        assert sent < 60_000_000  # the system's buffers hold a part of them
        await application.until_free()


def _client_frame(data: bytes, opcode: int = 0x81) -> bytes:
    """A frame of a client, masked with zeros."""
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return bytes([opcode]) + length + bytes(4) + data


async def test_a_message_beyond_the_limit_closes_the_connection() -> None:
    async with (
        serving(realtime_message_bytes=65_536) as (_, port),
        connect(f"ws://127.0.0.1:{port}/socket", compression="deflate") as client,
    ):
        assert client.protocol.extensions == []
        await client.send("x" * 65_536)
        assert len(await client.recv()) == 65_536
        await client.send("x" * 65_537)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_unread_messages_stop_the_reading() -> None:
    async with serving() as (application, port):
        application.read_next.clear()
        async with connection(port) as (_, writer):
            writer.write(UPGRADE + b"\r\n")
            await application.until_busy()
            writer.write(_client_frame(b"") * 2_000_000)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await writer.drain()
        application.read_next.set()
        await application.until_free()


async def test_many_small_messages_keep_their_order() -> None:
    async with serving() as (_, port), connect(f"ws://127.0.0.1:{port}/socket") as client:
        texts = [str(n) for n in range(20_000)]

        async def send() -> None:
            for text in texts:
                await client.send(text)

        sending = asyncio.create_task(send())
        assert [await client.recv() for _ in texts] == texts
        await sending


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (_client_frame(b"a", 0x01) + _client_frame(b"", 0x00) * 2_000, 1008),  # a message of too many frames
        (_client_frame(b"\xff\xfe"), 1007),  # no UTF-8
        (_client_frame(b"\xff", 0x01) + _client_frame(b"\xfe", 0x80), 1007),
    ],
)
async def test_hostile_frames_close_the_connection_without_a_traceback(
    frames: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as (application, port), connection(port) as (reader, writer):
        writer.write(UPGRADE + b"\r\n")
        await application.until_busy()
        writer.write(frames)
        answer = await rest(reader)
        assert code.to_bytes(2, "big") in answer
        await application.until_free()
    assert "Traceback" not in caplog.text
