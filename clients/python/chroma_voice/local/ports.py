"""Free ports on the loopback interface."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

_FIRST, _LAST = 20_000, 32_000
"""The range lies below the one from which Linux takes the local ports of outgoing connections. A child that restarts
must find its port free, and a client that dials it again must not connect to itself."""


def free_ports(count: int) -> list[int]:
    """`count` different ports on which nothing listened a moment ago. Raises OSError when there are none."""
    found: list[int] = []
    for port in random.sample(range(_FIRST, _LAST), k=_LAST - _FIRST):
        if len(found) == count:
            return found
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            found.append(port)
    raise OSError(f"no {count} free ports in {_FIRST}..{_LAST}")
