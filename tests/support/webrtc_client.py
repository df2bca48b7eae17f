"""A WebRTC client of the gateway, as a page is one: a microphone, a data channel for events, and what it hears."""

from __future__ import annotations

import asyncio
import fractions
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame
from openai import AsyncOpenAI

from services.common.wire.pcm import Samples
from tests.support.gateway_client import s16

_RATE_HZ = 16_000
_FRAME = 320


class Microphone(MediaStreamTrack):
    """A track that sends what it is given as fast as it can, and nothing else."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._frames: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._sent = 0

    def say(self, sound: Samples) -> None:
        """Send sound at 16 kHz after all that was given before."""
        self._frames.extend(s16(sound[start : start + _FRAME]) for start in range(0, len(sound) - _FRAME + 1, _FRAME))
        self._news.set()

    async def recv(self) -> AudioFrame:
        while not self._frames:
            self._news.clear()
            await self._news.wait()
        frame = AudioFrame(format="s16", layout="mono", samples=_FRAME)
        frame.planes[0].update(self._frames.popleft())
        frame.pts, frame.sample_rate, frame.time_base = self._sent, _RATE_HZ, fractions.Fraction(1, _RATE_HZ)
        self._sent += _FRAME
        return frame


class WebRtcTalk:
    """One call of the client."""

    def __init__(self, peer: RTCPeerConnection, http: httpx.AsyncClient) -> None:
        self.microphone = Microphone()
        self.location = ""
        self.change_offer: Callable[[str], str] = lambda sdp: sdp
        """What becomes of the offer on its way."""
        self.seen: list[dict[str, Any]] = []
        self.heard: list[np.ndarray] = []
        """The frames of sound that came, at 48 kHz."""
        self.closed = asyncio.Event()
        self._frame = asyncio.Event()
        self._peer = peer
        self._http = http
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._listening: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()
        peer.addTrack(self.microphone)
        self._channel = peer.createDataChannel("oai-events")
        self._channel.on("message", lambda text: self._events.put_nowait(json.loads(text)))
        self._channel.on("open", self._opened.set)
        peer.on("track", self._listen)
        peer.on("connectionstatechange", self._follow)

    async def call(self, url: str, *, connect: bool = True) -> httpx.Response:
        """Offer a call, as a page does without waiting for candidates, and connect when it is answered."""
        await self._peer.setLocalDescription(await self._peer.createOffer())
        response = await self.post(url, content=self.offer(), headers={"Content-Type": "application/sdp"})
        if response.status_code == 201 and connect:
            await self._connect(response.text, response.headers["location"])
        return response

    async def call_as_openai(self, session: Any) -> str:
        """Offer a call with settings through OpenAI's own client. Returns the call's location."""
        await self._peer.setLocalDescription(await self._peer.createOffer())
        async with AsyncOpenAI(api_key="none", base_url=str(self._http.base_url.join("v1"))) as openai:
            answer = await openai.realtime.calls.create(sdp=self.offer(), session=session)
        await self._connect(answer.text, answer.response.headers["location"])
        return self.location

    async def post(self, url: str, **request: Any) -> httpx.Response:
        """Send a request."""
        return await self._http.post(url, **request)

    def authorize(self, key: str) -> None:
        """Use this key from here on."""
        self._http.headers["authorization"] = f"Bearer {key}"

    async def answer(self, response: httpx.Response) -> None:
        """Connect after a call without `connect`."""
        await self._connect(response.text, response.headers["location"])

    async def _connect(self, answer: str, location: str) -> None:
        self.location = location
        await self._peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    def offer(self, *, candidates: bool = False) -> str:
        """The offer. Pages send it before the browser has found its candidates."""
        lines = self._peer.localDescription.sdp.splitlines(keepends=True)
        return self.change_offer("".join(line for line in lines if candidates or not line.startswith("a=candidate")))

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one event."""
        await self._opened.wait()
        self._channel.send(json.dumps({"type": kind, **fields}))

    def send_raw(self, message: str | bytes) -> None:
        """Send a message as it is."""
        self._channel.send(message)

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Events up to the next one of `kind`."""
        events = [await self.next()]
        while events[-1]["type"] != kind:
            events.append(await self.next())
        return events

    async def next(self) -> dict[str, Any]:
        """The next event."""
        event = await self._events.get()
        self.seen.append(event)
        return event

    async def until_heard(self, seconds: float, level: float = 0.05) -> None:
        """Wait until so many seconds of sound louder than `level` came."""
        while sum(frame.size for frame in self.heard if np.sqrt(np.mean(frame**2)) > level) < seconds * 48_000:
            self._frame.clear()
            await self._frame.wait()

    def vanish(self) -> None:
        """Send nothing more, not even an end, and answer nothing."""
        assert self._peer.sctp is not None
        for protocol in self._peer.sctp.transport.transport._connection._protocols:
            protocol.transport.abort()

    async def hang_up(self) -> None:
        """End the call on this side."""
        await self._peer.close()
        if self._listening is not None:
            await asyncio.wait([self._listening])

    def _listen(self, track: MediaStreamTrack) -> None:
        self._listening = asyncio.create_task(self._hear(track))

    async def _hear(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, AudioFrame)
            self._frame.set()
            self.heard.append(frame.to_ndarray().reshape(-1, 2)[:, 0].astype(np.float32) / 32_768)

    def _follow(self) -> None:
        if self._peer.connectionState in ("closed", "failed"):
            self.closed.set()


@asynccontextmanager
async def webrtc_talk(http_address: str, **headers: str) -> AsyncIterator[WebRtcTalk]:
    """A client of this gateway. It hangs up at the end."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    async with httpx.AsyncClient(base_url=f"http://{http_address}", headers=headers, timeout=60) as http:
        talk = WebRtcTalk(peer, http)
        try:
            yield talk
        finally:
            await talk.hang_up()
