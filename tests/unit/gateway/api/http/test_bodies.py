"""The checks of HTTP request bodies: type and size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest

from gateway.access.caller import Caller
from gateway.access.identity import Identified
from gateway.api.errors import TooLarge
from gateway.api.http.bodies import BodyLimit
from gateway.processes.shared_counts import BODY_BYTES, SharedCount
from services.common.errors import ResourceExhausted
from tests.support.process_counts import counts_of


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
        await BodyLimit(application, max_bytes=10, total_bytes=20)({"type": "http", "headers": headers}, receive, send)
    except TooLarge:
        return b"refused", asked
    return read, asked


async def test_a_body_of_the_limit_passes() -> None:
    assert await _read([b"12345", b"67890"], []) == (b"1234567890", 2)


async def test_a_chunked_body_is_refused_at_the_first_byte_too_many() -> None:
    assert await _read([b"12345", b"678901", b"more"], []) == (b"refused", 2)


class Readers:
    """Requests that have read their bodies and still run, behind limits of 10 bytes each and 30 bytes in all."""

    def __init__(self, count: SharedCount | None = None) -> None:
        self._limit = BodyLimit(self._application, max_bytes=10, total_bytes=30, count=count)
        self._end = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []

    async def read(self, size: int, key_id: str) -> None:
        """Begin a request of this key, which reads its body. Raises what the reading raises."""
        read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        identified = Identified(Caller("tenant", key_id), {})
        scope = {"type": "http", "headers": [], "state": {"identified": identified}, "read": read}
        task = asyncio.create_task(self._limit(scope, self._receive(size), cast(Any, None)))
        self._running.append(task)
        await asyncio.wait([task, read], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task

    async def end(self) -> None:
        """End all requests."""
        self._end.set()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._end.clear()

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["read"].set_result(None)
        await self._end.wait()

    @staticmethod
    def _receive(size: int) -> Any:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"x" * size, "more_body": False}

        return receive


async def test_the_bodies_of_a_key_hold_half_of_what_all_may_hold_until_their_responses_end() -> None:
    readers = Readers()
    await readers.read(10, "greedy")
    with pytest.raises(ResourceExhausted, match="as many bytes"):
        await readers.read(6, "greedy")
    await readers.read(10, "modest")
    await readers.read(5, "modest")
    await readers.read(5, "greedy")
    with pytest.raises(ResourceExhausted, match="as many bytes"):
        await readers.read(1, "late")
    await readers.end()
    await readers.read(10, "late")
    await readers.end()


async def test_a_body_that_states_a_larger_length_is_refused_unread() -> None:
    assert await _read([b"12345"], [(b"content-length", b"11")]) == (b"refused", 0)


@pytest.mark.parametrize(
    "given",
    [
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "text/json",
        "application/json, text/plain",
        "",
    ],
)
async def test_json_is_read_only_from_application_json(http: httpx.AsyncClient, given: str) -> None:
    headers = {"content-type": given} if given else {}
    for path in ("/v1/chat/completions", "/v1/audio/speech", "/v1/realtime/client_secrets"):
        answer = await http.post(path, content=b'{"messages": []}', headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("given", ["application/json", "Application/JSON; charset=utf-8", "application/json ;a=b"])
async def test_parameters_of_the_type_are_allowed(http: httpx.AsyncClient, given: str) -> None:
    answer = await http.post("/v1/audio/speech", content=b"{}", headers={"content-type": given})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")


async def test_a_chunked_body_needs_the_type_too(http: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"{}"

    assert (await http.post("/v1/audio/speech", content=pieces())).status_code == 415


async def test_an_upload_is_a_form_and_nothing_else(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/voices", json={})).status_code == 415
    assert (await http.post("/v1/voices", data={"voice_id": "x"})).status_code == 415
    assert (await http.post("/v1/voices", files={"file": b"x"})).status_code == 400


async def test_a_request_without_a_body_needs_no_type(http: httpx.AsyncClient) -> None:
    assert (await http.delete("/v1/voices/missing")).status_code == 404


async def test_the_bodies_of_several_processes_have_one_limit() -> None:
    one, other = (Readers(counts[BODY_BYTES]) for counts in counts_of(2))
    await one.read(10, "greedy")
    with pytest.raises(ResourceExhausted, match="as many bytes"):
        await one.read(1, "greedy")  # half of 30 bytes are 7 in each process: there is room for one body
    await one.read(10, "modest")
    await other.read(10, "greedy")
    with pytest.raises(ResourceExhausted, match="as many bytes"):
        await other.read(1, "late")
    await one.end()
    await other.read(10, "late")
    await other.end()
