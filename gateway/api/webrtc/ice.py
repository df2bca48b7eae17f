"""The UDP sockets of a call: which client may use them, and how much it may send.

Everybody can send to these sockets. Before a client has proved by a STUN message that it knows the call's password,
which only the answer to its offer holds, nothing that comes is kept, and nothing is sent but a short refusal.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable

import aioice.ice
from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol
from aiortc import RTCIceGatherer

from gateway.api.webrtc.addresses import MediaAddresses
from gateway.api.webrtc.offer import RemoteCandidate

_ADDRESSES = 32
"""Addresses of one client: a browser has a few, and learns further ones behind a NAT."""
_SOURCES = 8
"""Streams of sound of one client, by their SSRC. A browser uses one, and a new one after some changes."""
_BYTES_PER_S = 250_000
"""What a client may send on and on: Opus needs up to 64,000 bytes a second."""
_BURST_BYTES = 2_000_000
_PORTS_TRIED = 200
_BUFFER_BYTES = 256 * 1024
"""Datagrams of one call that the system holds."""


class IceConnection(aioice.Connection):
    """The gateway's side of the connectivity checks (RFC 8445), with bounds for what a client can make it do."""

    def __init__(self, addresses: MediaAddresses) -> None:
        turn = addresses.turn
        super().__init__(
            ice_controlling=False,
            stun_server=addresses.stun,
            turn_server=(turn.host, turn.port) if turn else None,
            turn_username=turn.user if turn else None,
            turn_password=turn.password if turn else None,
            turn_ssl=bool(turn and turn.is_tls),
            turn_transport="tcp" if turn and turn.is_tls else "udp",
        )
        self._addresses = addresses
        self._sources: set[bytes] = set()
        self._allowance = float(_BURST_BYTES)
        self._at_s = time.monotonic()

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109  # aioice's own
    ) -> list[Candidate]:
        """Open a socket at each of the gateway's own addresses, and ask the STUN and the TURN server. `addresses`, all
        of the machine but loopback, are used where no own ones are set."""
        found: list[Candidate] = []
        for host in self._addresses.hosts or addresses:
            protocol = await self._listen(host)
            if protocol is None:
                continue
            self._protocols.append(protocol)
            protocol.local_candidate = Candidate(
                candidate_foundation("host", "udp", host),
                component,
                "udp",
                candidate_priority(component, "host"),
                host,
                protocol.transport.get_extra_info("sockname")[1],
                "host",
            )
            found.append(protocol.local_candidate)
        if self.stun_server is not None:
            asked = [protocol for protocol in self._protocols if ":" not in protocol.local_candidate.host]
            found += [candidate async for candidate in self._reflexive(asked, timeout)]
        return found + await super().get_component_candidates(component, [], timeout)

    async def allow(self, candidates: list[RemoteCandidate]) -> None:
        """Send connectivity checks to those of the client's addresses that may be contacted."""
        for index, candidate in enumerate(candidates):
            if self._addresses.may_contact(candidate.address) and len(self._remote_candidates) < _ADDRESSES:
                host = str(candidate.address)
                remote = Candidate(str(index), 1, "udp", candidate.priority, host, candidate.port, candidate.kind)
                await self.add_remote_candidate(remote)

    def check_incoming(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Take a connectivity check that had the right password."""
        if "PRIORITY" in message.attributes and (self.knows(addr) or len(self._remote_candidates) < _ADDRESSES):
            super().check_incoming(message, addr, protocol)

    def knows(self, addr: tuple[str, int]) -> bool:
        """Whether a client's check came from this address, or one was sent to it."""
        return any((known._network_host, known.port) == addr for known in self._remote_candidates)

    def takes(self, data: bytes) -> bool:
        """Whether a datagram of a known client is within its bounds: bytes a second, and sources of sound."""
        now_s = time.monotonic()
        self._allowance = min(_BURST_BYTES, self._allowance + (now_s - self._at_s) * _BYTES_PER_S) - len(data)
        self._at_s = now_s
        if self._allowance < 0:
            self._allowance += len(data)
            return False
        is_sound = len(data) >= 12 and 127 < data[0] < 192 and not 192 <= data[1] < 224
        if is_sound and data[8:12] not in self._sources:
            if len(self._sources) >= _SOURCES:
                return False
            self._sources.add(data[8:12])
        return True

    async def _listen(self, host: str) -> StunProtocol | None:
        """Open a socket at a port of the range. None: there is no such address, or no port is free."""
        ports = self._addresses.ports or (0,)
        loop = asyncio.get_running_loop()
        for port in random.sample(ports, min(len(ports), _PORTS_TRIED)):
            try:
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: _Socket(self), local_addr=(host, port)
                )
            except OSError:
                continue
            opened: socket.socket = transport.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            return protocol
        return None

    async def _reflexive(self, protocols: list[StunProtocol], timeout_s: float) -> AsyncIterator[Candidate]:
        assert self.stun_server is not None, "there is a STUN server"
        for protocol in protocols:
            try:
                async with asyncio.timeout(timeout_s):
                    candidate, _ = await aioice.ice.server_reflexive_candidate(protocol, self.stun_server)
            except (TimeoutError, OSError, stun.TransactionError):
                continue
            yield candidate


class _Socket(StunProtocol):
    """A socket of a call. It passes on what looks like STUN, and the rest only of a client that is known."""

    receiver: IceConnection

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        assert isinstance(data, bytes), "a socket gives bytes"
        addr = (addr[0], addr[1])
        if data and data[0] < 4:
            try:
                stun.parse_message(data)
            except (ValueError, struct.error, IndexError):
                return
            super().datagram_received(data, addr)
        elif data and self.receiver.knows(addr) and self.receiver.takes(data):
            super().datagram_received(data, addr)


class IceGatherer(RTCIceGatherer):
    """aiortc's gatherer over an `IceConnection`."""

    def __init__(self, addresses: MediaAddresses) -> None:
        super().__init__(iceServers=[])
        self.connection = self._connection = IceConnection(addresses)

    def candidates(self, told: Callable[[str], list[str]]) -> list[str]:
        """The values of the `candidate` attributes of the answer. `told` returns what clients are told for a host."""
        values: list[str] = []
        for candidate in self.connection.local_candidates:
            hosts = told(candidate.host) if candidate.type == "host" else [candidate.host]
            for host in hosts:
                shown = Candidate(
                    candidate.foundation,
                    candidate.component,
                    candidate.transport,
                    candidate.priority,
                    host,
                    candidate.port,
                    candidate.type,
                    # Where the gateway stands behind its NAT is nobody's business.
                    related_address="0.0.0.0" if candidate.type != "host" else None,
                    related_port=9 if candidate.type != "host" else None,
                )
                values.append(shown.to_sdp())
        return values
