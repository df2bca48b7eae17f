"""Responses whose body is sent while it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from gateway.api.openai.streaming import server_sent_event, streaming_response
from services.common.errors import Unavailable


async def test_an_error_before_the_first_piece_is_raised_as_a_status() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b""
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        await streaming_response(body(), "audio/wav")


async def test_the_body_is_the_pieces_that_hold_something() -> None:
    async def body() -> AsyncIterator[bytes]:
        for piece in (b"", b"one", b"", b"two"):
            yield piece

    response = await streaming_response(body(), "audio/wav")
    assert [piece async for piece in response.body_iterator] == [b"one", b"two"]


async def test_a_failure_in_the_body_leaves_it_without_an_end_and_writes_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        raise Unavailable("away")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    response = await streaming_response(body(), "audio/wav")
    await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    assert [message.get("more_body") for message in sent[1:]] == [True]
    assert [record.exc_info for record in caplog.records] == [None]


async def sent_by(body: AsyncIterator[bytes], content_type: str, commented: asyncio.Event) -> list[bytes]:
    """What a response sends. `commented` is set when a comment was sent."""
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))
        if sent[-1].startswith(b":"):
            commented.set()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    response = await streaming_response(body, content_type)
    await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    return sent


async def test_comments_stand_between_events_that_are_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.openai.streaming._SILENT_S", 0.001)
    commented = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield server_sent_event("one")
        commented.clear()
        await commented.wait()
        yield server_sent_event("two")

    sent = await sent_by(body(), "text/event-stream", commented)
    assert sent[0] == b"", "the head comes first"
    assert [piece for piece in sent if piece and not piece.startswith(b":")] == [b'data: "one"\n\n', b'data: "two"\n\n']
    assert all(piece.endswith(b"\n\n") for piece in sent if piece)
    assert sent[-1] == b"", "nothing comes after the end"


async def test_other_bodies_get_no_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.openai.streaming._SILENT_S", 0.0)

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        for _ in range(10):
            await asyncio.sleep(0)
        yield b"two"

    assert await sent_by(body(), "audio/wav", asyncio.Event()) == [b"", b"one", b"two", b""]


def test_an_event_is_one_line_of_json() -> None:
    assert server_sent_event({"text": "a\nü"}) == 'data: {"text": "a\\nü"}\n\n'.encode()
