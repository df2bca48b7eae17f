"""Free ports on the loopback interface."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

_FIRST, _LAST = 20_000, 32_000
"""This range lies below the range from which Linux takes the local ports of outgoing connections. So the port of a
child stays free while the child restarts, and a client that connects again cannot connect to itself."""


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that were free when they were tried. Raises OSError when there are too few."""
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
