"""The data channel of a call: what a client can make the gateway keep."""

from __future__ import annotations

from typing import Any, cast

from aiortc import RTCDtlsTransport
from aiortc.rtcsctptransport import DataChunk
from pyee.asyncio import AsyncIOEventEmitter

from gateway.api.webrtc.data import BoundedSctp, EventChannel
from gateway.api.webrtc.inbox import Inbox


class _Dtls(AsyncIOEventEmitter):
    """A transport that takes nothing."""

    state = "connected"
    _role = "client"


def _chunk(tsn: int, size: int = 1_000, stream_id: int = 0, flags: int = 0) -> DataChunk:
    chunk = DataChunk(flags=flags)
    chunk.tsn, chunk.stream_id, chunk.stream_seq, chunk.user_data = tsn, stream_id, 0, bytes(size)
    return chunk


def _sctp() -> BoundedSctp:
    sctp = BoundedSctp(cast(RTCDtlsTransport, _Dtls()))
    sctp._last_received_tsn = 0
    return sctp


async def test_a_message_that_never_ends_is_dropped_at_the_bound() -> None:
    sctp = _sctp()
    for tsn in range(1, 3_000):
        await sctp._receive_data_chunk(_chunk(tsn, flags=2 if tsn == 1 else 0))
    kept = sum(len(chunk.user_data) for stream in sctp._inbound_streams.values() for chunk in stream.reassembly)
    assert 900_000 < kept <= 1024 * 1024


async def test_tiny_pieces_and_many_streams_are_bounded_too() -> None:
    sctp = _sctp()
    for tsn in range(1, 3_000):
        await sctp._receive_data_chunk(_chunk(tsn, size=1, stream_id=tsn % 50))
    assert len(sctp._inbound_streams) <= 4
    assert sum(len(stream.reassembly) for stream in sctp._inbound_streams.values()) <= 4 * 1_024


async def test_pieces_out_of_order_are_bounded() -> None:
    sctp = _sctp()
    for tsn in range(2, 20_000, 2):
        await sctp._receive_data_chunk(_chunk(tsn, size=1, flags=7))  # whole messages without order
    assert len(sctp._sack_misordered) <= 4_096


class _Channel(AsyncIOEventEmitter):
    """An open channel that takes everything."""

    readyState = "open"  # noqa: N815  # aiortc's name

    def __init__(self) -> None:
        super().__init__()
        self.bufferedAmount = 0
        self.bufferedAmountLowThreshold = 0
        self.sent: list[str] = []

    def send(self, text: str) -> None:
        if len(text) > 100:
            raise ValueError("too long")
        self.sent.append(text)


async def test_only_the_first_channel_carries_events_and_too_long_ones_are_left_out() -> None:
    inbox = Inbox()
    events, first, second = EventChannel(inbox), _Channel(), _Channel()
    for channel in (first, second):
        events.open(cast(Any, channel))
    await events.send({"type": "a"})
    await events.send({"type": "b" * 200})
    await events.send({"type": "c"})
    assert (first.sent, second.sent) == (['{"type":"a"}', '{"type":"c"}'], [])
    first.emit("message", "hello")
    second.emit("message", "not taken")
    first.emit("message", b"bytes")
    assert [await inbox.get(), await inbox.get()] == ["hello", None]
    first.emit("close")
    assert inbox.has_ended
