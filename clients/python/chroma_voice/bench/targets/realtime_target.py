"""Any server with OpenAI's Realtime API over a WebSocket: chroma-voice, OpenAI, and others that speak it."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect

from chroma_voice.bench.targets.realtime_errors import close_error, handshake_error, refusal
from chroma_voice.bench.targets.realtime_events import Translator
from chroma_voice.bench.targets.target import RATE_HZ, Event
from chroma_voice.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument

PROBE_S = 10.0
"""Longest wait for the first event of a connection."""
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class RealtimeTarget:
    """A Realtime API at `url` (ws:// or wss://, with its query).

    With `beta` the session's settings have the flat form of OpenAI's beta, which older servers expect.
    """

    url: str
    api_key: str = field(default="", repr=False)
    tls_ca: str | None = field(default=None, repr=False)
    """PEM text of the authority that signed the server's certificate. None: those of the system."""
    beta: bool = False
    silence_s: float = 30.0
    """How long the server may send nothing while it owes a reply."""

    @property
    def name(self) -> str:
        """The URL without its query, which can hold secrets, and the protocol."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path} (Realtime)"

    async def probe(self) -> list[str]:
        """Open a session and close it. The voice is the server's own choice unless one is named."""
        async with self._open():
            return []

    @asynccontextmanager
    async def connect(self, voice: str, *, hands_free: bool) -> AsyncIterator[RealtimeConnection]:
        """Open a session with these settings, and wait until they are in force."""
        async with self._open() as socket:
            connection = RealtimeConnection(socket)
            await connection.send("session.update", session=self._session(voice, hands_free=hands_free))
            await connection.expect("session.updated")
            yield connection

    def _session(self, voice: str, *, hands_free: bool) -> dict[str, Any]:
        detection = {"type": "server_vad"} if hands_free else None
        if self.beta:
            flat: dict[str, Any] = {"modalities": ["audio", "text"], "turn_detection": detection}
            flat |= {"input_audio_format": "pcm16", "output_audio_format": "pcm16"}
            return flat | ({"voice": voice} if voice else {})
        form = {"type": "audio/pcm", "rate": RATE_HZ}
        output = {"format": form} | ({"voice": voice} if voice else {})
        audio = {"input": {"format": form, "turn_detection": detection}, "output": output}
        return {"type": "realtime", "output_modalities": ["audio"], "audio": audio}

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[ClientConnection]:
        """Open the WebSocket and wait for `session.created`."""
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        if self.beta:
            headers["OpenAI-Beta"] = "realtime=v1"
        try:
            socket = await connect(
                self.url,
                additional_headers=headers,
                compression=None,
                max_size=_MAX_MESSAGE_BYTES,
                open_timeout=self.silence_s,
                close_timeout=1.0,
                ssl=ssl.create_default_context(cadata=self.tls_ca) if self.url.startswith("wss:") else None,
            )
        except (OSError, websockets.WebSocketException) as error:
            raise handshake_error(error, self.name) from error
        try:
            await RealtimeConnection(socket).expect("session.created", within_s=PROBE_S)
            yield socket
        finally:
            await socket.close()  # waits for `close_timeout` at most


class RealtimeConnection:
    """One WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._translator = Translator()

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one event."""
        try:
            await self._socket.send(json.dumps({"type": kind, **fields}))
        except websockets.ConnectionClosed as error:
            raise close_error(error) from error

    async def receive(self) -> dict[str, Any]:
        """Return the next event."""
        try:
            message = await self._socket.recv()
        except websockets.ConnectionClosed as error:
            raise close_error(error) from error
        try:
            event = json.loads(message)
        except ValueError:
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise FailedPrecondition(
                "expected events of the Realtime API, got a message that is no JSON object with a type"
            )
        return event

    async def expect(self, kind: str, *, within_s: float = PROBE_S) -> dict[str, Any]:
        """Return the next event of this kind. Raises a `ChromaError` for an `error` event, and when none comes."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    event = await self.receive()
                    if event["type"] == kind:
                        return event
                    if event["type"] == "error":
                        raise refusal(event)
        except TimeoutError:
            raise DeadlineExceeded(f"expected `{kind}`, and it did not come within {within_s:g} s") from None

    async def send_audio(self, data: bytes) -> None:
        """Append a piece of speech to the input buffer."""
        await self.send("input_audio_buffer.append", audio=base64.b64encode(data).decode())

    async def commit(self) -> None:
        """Commit the input buffer and ask for a response."""
        self._translator.asked()
        await self.send("input_audio_buffer.commit")
        await self.send("response.create")

    async def interrupt(self, played_s: float) -> None:
        """Cancel the running response, and say how much of it was played."""
        item_id = self._translator.item_id
        await self.send("response.cancel")
        if item_id:
            played_ms = int(played_s * 1000)
            await self.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=played_ms)

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events of the connection."""
        while True:
            for event in self._translator.translate(await self.receive()):
                yield event


def realtime_url(text: str, model: str, *, store: bool = True) -> str:
    """Return the WebSocket URL of a Realtime API, with `model` in its query unless one is there. Without `store`, a
    chroma-voice keeps nothing.

    http and https become ws and wss. A path that does not end with `/realtime` gets `/v1/realtime`. Raises
    `InvalidArgument` for what is no URL.
    """
    parts = urlsplit(text if "://" in text else f"ws://{text}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise InvalidArgument(f"expected a URL such as ws://127.0.0.1:8080/v1/realtime, got {text!r}")
    path = parts.path.rstrip("/")
    if not path.endswith("/realtime"):
        path += "/realtime" if path.endswith("/v1") else "/v1/realtime"
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if model:
        query.setdefault("model", model)
    if not store:
        query.setdefault("store", "false")
    return urlunsplit((scheme, parts.netloc, path, urlencode(query), ""))
