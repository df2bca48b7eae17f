"""How long a client waits for a gateway that is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chroma_voice.errors import InvalidArgument

_MIN_PING_S = 5.0
"""Default of the gateway's CHROMA_GRPC_PING_S."""


@dataclass(frozen=True)
class Patience:
    """How long a client waits for a gateway that is silent. All times are in seconds.

    Pings find a machine that is gone and a process that is frozen; then every running call ends with UNAVAILABLE.
    `silence_s` finds a gateway that answers pings and does nothing else.
    """

    ping_every_s: float = 10.0
    """While a call runs, the connection is pinged when nothing has come for this time. At least 5 s: the gateway closes
    a connection that is pinged more often than it allows (`too_many_pings`, CHROMA_GRPC_PING_S, 5 s unless set). gRPC
    then connects again and doubles this time."""
    ping_answer_s: float = 5.0
    """How long the answer to a ping may take."""
    silence_s: float = 90.0
    """How long no message may come while a reply is owed. The gateway gives up a stage after 60 s
    (CHROMA_STAGE_PATIENCE_S) and says so; this limit is longer, so that its error is the one that is raised."""

    def __post_init__(self) -> None:
        """Raises `InvalidArgument` for times that cannot work."""
        if not self.ping_every_s >= _MIN_PING_S:
            raise InvalidArgument(f"expected ping_every_s of at least {_MIN_PING_S:g} s, got {self.ping_every_s:g}")

    def channel_options(self) -> list[tuple[str, int]]:
        """Return the options of a gRPC channel with these pings."""
        return [
            ("grpc.keepalive_time_ms", round(self.ping_every_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.ping_answer_s * 1000)),
            # It bounds every ping, also those by which gRPC measures the bandwidth. By default it is a minute, and
            # while such a ping waits for its answer, a frozen peer is not noticed.
            ("grpc.http2.ping_timeout_ms", round(self.ping_answer_s * 1000)),
            # Without these, gRPC sends two pings and then none until it sends data again.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.keepalive_permit_without_calls", 0),
        ]


DEFAULT_PATIENCE = Patience()


class SilenceAlarm:
    """Calls `ring` when a message is owed, a read waits for it, and none comes for `limit_s` seconds.

    Time counts only while a read waits: a caller that is slow to read proves nothing about the gateway.
    """

    def __init__(self, limit_s: float, ring: Callable[[], object]) -> None:
        self._limit_s = limit_s
        self._ring = ring
        self._owed = False
        self._reading = False
        self._timer: asyncio.TimerHandle | None = None
        self.rang = False
        """Whether the alarm has called `ring`."""

    def set_owed(self, owed: bool) -> None:
        """Say whether the gateway owes a message."""
        self._owed = owed
        self._adjust()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Say that a read waits for a message, until the block ends."""
        self._reading = True
        self._adjust()
        try:
            yield
        finally:
            self._reading = False
            self._adjust()

    def _adjust(self) -> None:
        if not (self._owed and self._reading):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._fire)

    def _fire(self) -> None:
        self.rang = True
        self._ring()
