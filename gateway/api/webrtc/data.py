"""The data channel of a call: client events in, server events out, with bounds for what a client can make it keep."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiortc import RTCDataChannel, RTCSctpTransport
from aiortc.rtcsctptransport import DataChunk

from gateway.api.client_json import to_json
from gateway.api.realtime.events.transport import HungUp
from gateway.api.webrtc.inbox import Inbox

log = logging.getLogger(__name__)

_CHANNELS = 4
"""Data channels of one client. The first one carries the events."""
_CHUNKS = 1_024
"""Pieces of one unfinished message. A message of 256 KiB comes in about 230."""
_MISORDERED = 4_096
_UNSENT_BYTES = 1024 * 1024
"""Events that the client has not taken. Further ones wait."""


class BoundedSctp(RTCSctpTransport):
    """The protocol of data channels. It drops what goes beyond the room that it has told the client of."""

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        if not self._has_room(chunk):
            return  # the client sends it again, as if it had been lost
        await super()._receive_data_chunk(chunk)

    def _has_room(self, chunk: DataChunk) -> bool:
        if len(chunk.user_data) > self._advertised_rwnd or len(self._sack_misordered) >= _MISORDERED:
            return False
        stream = self._inbound_streams.get(chunk.stream_id)
        return len(self._inbound_streams) < _CHANNELS if stream is None else len(stream.reassembly) < _CHUNKS


class EventChannel:
    """The events of one call. Those to the client wait until it has opened its channel."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._channel: RTCDataChannel | None = None
        self._opened = asyncio.Event()
        self._drained = asyncio.Event()

    def open(self, channel: RTCDataChannel) -> None:
        """Take a channel that the client has made. Only the first one is used."""
        if self._channel is not None:
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = _UNSENT_BYTES // 2
        channel.on("message", self._take)
        channel.on("bufferedamountlow", self._drained.set)
        channel.on("close", self._inbox.end)
        self._opened.set()

    async def send(self, event: dict[str, Any]) -> None:
        """Send an event. Waits until the client has opened the channel, and while it takes nothing. Raises HungUp."""
        await self._opened.wait()
        assert self._channel is not None, "a channel was opened"
        while self._channel.bufferedAmount > _UNSENT_BYTES:
            self._drained.clear()
            await self._drained.wait()
        if self._channel.readyState != "open":
            raise HungUp
        text = to_json(event)
        try:
            self._channel.send(text)
        except ValueError:
            log.warning("an event of %d characters is longer than the client's data channel takes", len(text))

    async def flush(self) -> None:
        """Wait until the client has everything that was sent."""
        if self._channel is None:
            return
        self._channel.bufferedAmountLowThreshold = 0
        while self._channel.readyState == "open" and self._channel.bufferedAmount:
            self._drained.clear()
            await self._drained.wait()

    def _take(self, message: str | bytes) -> None:
        self._inbox.put_message(message if isinstance(message, str) else None)
