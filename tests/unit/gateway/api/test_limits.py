"""The size limit of HTTP request bodies."""

from __future__ import annotations

from typing import Any

from gateway.api.errors import TooLarge
from gateway.api.limits import BodyLimit


async def _read(pieces: list[bytes], headers: list[tuple[bytes, bytes]]) -> tuple[bytes, int]:
    """What an application behind a limit of 10 bytes reads, and how often it asked the server for a piece."""
    read, asked = b"", 0

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": pieces[asked - 1], "more_body": asked < len(pieces)}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal read
        more = True
        while more:
            message = await receive()
            read, more = read + message["body"], message["more_body"]

    async def send(message: Any) -> None:
        raise AssertionError("the application sends nothing")

    try:
        await BodyLimit(application, max_bytes=10)({"type": "http", "headers": headers}, receive, send)
    except TooLarge:
        return b"refused", asked
    return read, asked


async def test_a_body_of_the_limit_passes() -> None:
    assert await _read([b"12345", b"67890"], []) == (b"1234567890", 2)


async def test_a_chunked_body_is_refused_at_the_first_byte_too_many() -> None:
    assert await _read([b"12345", b"678901", b"more"], []) == (b"refused", 2)


async def test_a_body_that_states_a_larger_length_is_refused_unread() -> None:
    assert await _read([b"12345"], [(b"content-length", b"11")]) == (b"refused", 0)
