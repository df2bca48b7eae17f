"""Clients that do not keep to the protocols: what they send is refused, and the processes stay as they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bench.soak.callers import VOICE
from chroma_voice import Client
from chroma_voice.local.state import Endpoints

REALTIME_PIECES = (
    "{",
    "null",
    "[" * 10_000,
    json.dumps({"type": "no.such.event"}),
    json.dumps({"type": 7}),
    json.dumps({"type": "session.update", "session": {"instructions": "\ud83d"}}),
    json.dumps({"type": "session.update", "session": {"max_output_tokens": int("9" * 400)}}),
    json.dumps({"type": "input_audio_buffer.append", "audio": "é"}),
    json.dumps({"type": "input_audio_buffer.append", "audio": "not base64"}),
    json.dumps({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": 3}}),
    json.dumps({"type": "conversation.item.delete", "item_id": "none"}),
    json.dumps({"type": "response.cancel"}),
    json.dumps({"type": "input_audio_buffer.commit"}),
    b"\x00\xff\xfe",
)
HTTP_REQUESTS: tuple[tuple[str, str, dict[str, str], bytes], ...] = (
    ("POST", "/v1/chat/completions", {"content-type": "application/json"}, b"{"),
    ("POST", "/v1/chat/completions", {"content-type": "application/json"}, b"[" * 50_000),
    ("POST", "/v1/chat/completions", {"content-type": "application/json"}, b'{"messages": [], "top_k": 4294967296}'),
    ("POST", "/v1/chat/completions", {"content-type": "text/plain"}, b'{"messages": []}'),
    ("POST", "/v1/audio/speech", {"content-type": "application/json"}, b'{"input": "\\ud83d", "voice": "reader"}'),
    ("POST", "/v1/audio/speech", {"content-type": "application/json"}, b'{"input": "hello", "voice": "nobody"}'),
    ("POST", "/v1/voices", {"content-type": "multipart/form-data; boundary=x"}, b"--x\r\n\r\n--x"),
    ("POST", "/v1/voices", {"content-type": "application/json", "origin": "https://evil.example"}, b"{}"),
    ("GET", "/v1/voices?limit=" + "9" * 5_000, {}, b""),
    ("GET", "/v1/voices/%00", {}, b""),
    ("DELETE", "/v1/voices/nobody", {"host": "evil.example"}, b""),
    ("PUT", "/healthz", {}, b""),
    ("GET", "/v1/voices", {"authorization": "Bearer sk-wrong"}, b""),
)
STOPPED_READER_S = 5.0
HALF_OPEN_S = 2.0


class BadClients:
    """One series of random bad clients. `visits` counts them by kind and answer."""

    def __init__(self, endpoints: Endpoints, seed: int) -> None:
        self.visits: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        """Answers that say that the server broke: HTTP 500, close code 1011."""
        self._endpoints = endpoints
        self._dice = random.Random(f"bad {seed}")
        self._http = urlsplit(endpoints.page)
        self._sessions: list[str] = []

    async def run(self, seconds: float) -> None:
        """One visit after the other for `seconds`. Their sessions are deleted afterwards."""
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            self._malformed_realtime,
            self._malformed_http,
            self._half_handshake,
            self._garbage_to_grpc,
            self._stopped_reader,
            self._hang_up,
        )
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            kind = self._dice.choice(kinds)
            try:
                await asyncio.wait_for(kind(), 60)
            except TimeoutError:
                self.wrong[f"{kind.__name__.strip('_')}: no answer for 60 s"] += 1
            except (OSError, httpx.HTTPError, ConnectionClosed, InvalidStatus) as error:
                # The gateway may be hurt at this moment.
                self.visits[f"{kind.__name__.strip('_')}: {type(error).__name__}"] += 1
                await asyncio.sleep(0.2)
        async with Client(self._endpoints.gateway) as client:
            for session_id in self._sessions:
                await client.delete_session(session_id)

    async def _malformed_realtime(self) -> None:
        url = f"ws://{self._http.netloc}/v1/realtime?model=chroma"
        async with connect(url, open_timeout=30, proxy=None) as connection:
            created = json.loads(await asyncio.wait_for(connection.recv(), 30))
            if created["type"] == "session.created":
                self._sessions.append(created["session"]["id"])
            for _ in range(self._dice.randint(1, 5)):
                await connection.send(self._dice.choice(REALTIME_PIECES))
            with contextlib.suppress(TimeoutError):
                while True:
                    await asyncio.wait_for(connection.recv(), 0.5)
        code = connection.close_code
        if code == 1011:
            self.wrong["malformed_realtime: close code 1011"] += 1
        self.visits["malformed_realtime"] += 1

    async def _malformed_http(self) -> None:
        method, path, headers, body = self._dice.choice(HTTP_REQUESTS)
        async with httpx.AsyncClient(base_url=self._endpoints.page, timeout=50, trust_env=False) as client:
            answer = await client.request(method, path, headers=headers, content=body)
        if answer.status_code == 500:
            self.wrong[f"{method} {path[:40]}: 500"] += 1
        self.visits[f"malformed_http: {answer.status_code}"] += 1

    async def _half_handshake(self) -> None:
        _, writer = await asyncio.open_connection(self._http.hostname, self._http.port)
        writer.write(b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nSec-WebSo")
        await writer.drain()
        await asyncio.sleep(HALF_OPEN_S)
        writer.close()
        self.visits["half_handshake"] += 1

    async def _garbage_to_grpc(self) -> None:
        address = self._endpoints.gateway
        if address.startswith("unix:"):
            _, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
        writer.write(self._dice.choice((b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) + self._dice.randbytes(2_000))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()
        self.visits["garbage_to_grpc"] += 1

    async def _stopped_reader(self) -> None:
        await self._half_read("stopped_reader", STOPPED_READER_S)

    async def _hang_up(self) -> None:
        await self._half_read("hang_up", 0.0)

    async def _half_read(self, kind: str, seconds: float) -> None:
        """Ask for a spoken reply, take its beginning, read nothing for `seconds`, and leave."""
        form = {"model": "chroma", "voice": VOICE, "input": "hello there " * 20, "response_format": "pcm"}
        async with (
            httpx.AsyncClient(base_url=self._endpoints.page, timeout=50, trust_env=False) as client,
            client.stream("POST", "/v1/audio/speech", json=form) as answer,
        ):
            if answer.status_code == 500:
                self.wrong[f"{kind}: 500"] += 1
            async for _ in answer.aiter_raw(1_000):
                await asyncio.sleep(seconds)
                break
            self.visits[f"{kind}: {answer.status_code}"] += 1
