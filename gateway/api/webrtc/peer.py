"""The gateway's end of one WebRTC call: ICE, DTLS, sound and the data channel, through aiortc.

The parts are aiortc's own (ICE, DTLS, RTP, SCTP); its `RTCPeerConnection`, which would read any offer and send to any
address in it, is not used.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from aiortc import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceParameters,
    RTCIceTransport,
    RTCRtpCodecParameters,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSctpCapabilities,
)
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack

from gateway.api.realtime.events.transport import HungUp
from gateway.api.webrtc.addresses import MediaAddresses
from gateway.api.webrtc.answer import LocalTransport, receives, sends, write_answer
from gateway.api.webrtc.data import BoundedSctp, EventChannel
from gateway.api.webrtc.ice import IceGatherer
from gateway.api.webrtc.inbox import Inbox
from gateway.api.webrtc.microphone import pieces_of
from gateway.api.webrtc.offer import Offer
from gateway.api.webrtc.speaker import ReplyQueue, SpeakerTrack
from gateway.tasks import cancel
from services.common.errors import ChromaError, Unavailable

log = logging.getLogger(__name__)

for _library in ("aioice", "aiortc"):
    logging.getLogger(_library).setLevel(logging.ERROR)  # they log each check, with the addresses of clients

_STOP_S = 5.0
_FLUSH_S = 1.0


class Peer:
    """One call's connection. It is the transport of its Realtime connection."""

    def __init__(self, offer: Offer, addresses: MediaAddresses) -> None:
        self.speaker = ReplyQueue()
        self._offer = offer
        self._addresses = addresses
        self._gatherer = IceGatherer(addresses)
        self._ice = RTCIceTransport(self._gatherer)
        self._dtls = RTCDtlsTransport(self._ice, [RTCCertificate.generateCertificate()])
        self._is_dtls_server = offer.setup == "active"
        self._dtls._set_role("server" if self._is_dtls_server else "client")
        self._track = SpeakerTrack(self.speaker)
        self._sender = RTCRtpSender(self._track, self._dtls)
        self._receiver = RTCRtpReceiver("audio", self._dtls)
        self._receiver._track = RemoteStreamTrack("audio")
        self._receiver._set_rtcp_ssrc(self._sender._ssrc)
        self._sctp = BoundedSctp(self._dtls)
        self._inbox = Inbox()
        self._events = EventChannel(self._inbox)
        self._sctp.on("datachannel", self._events.open)
        self._cname = secrets.token_hex(8)
        self._microphone: asyncio.Task[None] | None = None
        self._dtls.on("statechange", self._follow_dtls)

    async def answer(self) -> str:
        """Open the sockets, and return the answer to the offer. Raises Unavailable when no socket can be opened."""
        await self._gatherer.gather()
        candidates = self._gatherer.candidates(self._addresses.told)
        if not candidates:
            raise Unavailable("the gateway has no free port for a call")
        ice, dtls = self._gatherer.getLocalParameters(), self._dtls.getLocalParameters()
        local = LocalTransport(
            ice.usernameFragment or "",
            ice.password or "",
            [(fingerprint.algorithm, fingerprint.value) for fingerprint in dtls.fingerprints],
            candidates,
            self._is_dtls_server,
            self._sender._ssrc,
            self._cname,
            self._sctp.port,
        )
        return write_answer(self._offer, local)

    async def connect(self) -> None:
        """Wait until the client has connected. Raises HungUp when it cannot."""
        offer = self._offer
        await self._gatherer.connection.allow(offer.candidates)
        await self._until_ended(self._ice.start(RTCIceParameters(offer.ice_username, offer.ice_password)))
        if self._ice.state != "completed":
            raise HungUp
        fingerprints = [RTCDtlsFingerprint(algorithm, digest) for algorithm, digest in offer.fingerprints]
        await self._until_ended(self._dtls.start(RTCDtlsParameters(fingerprints)))
        if self._dtls.state != "connected":
            raise HungUp
        opus = RTCRtpCodecParameters("audio/opus", 48_000, 2, offer.opus)
        mid = offer.sections[offer.sound].mid
        if sends(offer):
            sending = RTCRtpSendParameters([opus], muxId=mid)
            sending.rtcp.cname, sending.rtcp.ssrc, sending.rtcp.mux = self._cname, self._sender._ssrc, True
            await self._sender.send(sending)
        if receives(offer):
            await self._receiver.receive(RTCRtpReceiveParameters([opus], muxId=mid))
            self._microphone = asyncio.create_task(self._take_sound())
        if offer.data is not None:
            await self._sctp.start(RTCSctpCapabilities(offer.max_message_bytes), offer.sctp_port)

    async def receive(self) -> str | bytes | None:
        """Return the client's next message, or 60 ms of its sound."""
        return await self._inbox.get()

    async def send(self, event: dict[str, Any]) -> None:
        """Send an event over the data channel; a client without one gets none."""
        if self._inbox.has_ended:
            raise HungUp
        if self._offer.data is not None:
            await self._events.send(event)

    async def played(self) -> None:
        """Wait until the client has heard what was said, or has hung up."""
        await self._until_ended(self.speaker.played())

    def hang_up(self) -> None:
        """Let the call end."""
        self._inbox.end()

    async def close(self) -> None:
        """End the call, and give back its sockets, tasks and threads."""
        if self._dtls.state == "connected":
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await self._events.flush()
        self._inbox.end()
        if self._microphone is not None:
            await cancel(self._microphone)
        for part in (self._sender, self._receiver, self._sctp, self._dtls, self._ice):
            try:
                async with asyncio.timeout(_STOP_S):
                    await part.stop()
            except TimeoutError:
                log.warning("a part of a call did not stop in %g s: %s", _STOP_S, type(part).__name__)
        await self._gatherer.connection.close()  # its sockets, where the call never began to connect
        self._track.stop()

    async def _take_sound(self) -> None:
        """Put the client's sound into the inbox. It is dropped where the conversation is slow."""
        track = self._receiver.track
        assert track is not None, "the receiver has a track"
        try:
            async for piece in pieces_of(track):
                self._inbox.put_sound(piece)
        except ChromaError as error:
            self._inbox.end(error)

    async def _until_ended(self, step: Coroutine[Any, Any, None]) -> None:
        """Take a step of connecting, unless the call ends meanwhile. Raises HungUp."""
        tasks = [asyncio.ensure_future(step), asyncio.ensure_future(self._inbox.ended())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                raise HungUp
            tasks[0].result()
        finally:
            await cancel(*tasks)

    def _follow_dtls(self) -> None:
        """End the call when the client has said so, or has not answered for half a minute (RFC 7675)."""
        if self._dtls.state in ("closed", "failed"):
            self._inbox.end()
