"""Free ports on the loopback interface."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"

_FIRST, _LAST = 20_000, 32_000
"""This range lies below the range from which Linux takes the local ports of outgoing connections. So the port of a
child stays free while the child restarts, and a client that connects again cannot connect to itself."""


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that were free when they were tried. Raises OSError when there are too few."""
    return _first_free(random.sample(range(_FIRST, _LAST), k=_LAST - _FIRST), count, set())


def ports_for(owner: str, names: Iterable[str]) -> dict[str, int]:
    """Return a free port for each name. They are the same each time for the same `owner`, unless other programs have
    taken them. Raises OSError as `free_ports` does."""
    found: dict[str, int] = {}
    for name in names:
        dice = random.Random(f"{owner}:{name}")
        (found[name],) = _first_free(dice.sample(range(_FIRST, _LAST), k=_LAST - _FIRST), 1, set(found.values()))
    return found


def is_free(host: str, port: int) -> bool:
    """Return whether a server of this machine can listen there now. Raises OSError for a host that is not of this
    machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def _first_free(ports: Iterable[int], count: int, others: set[int]) -> list[int]:
    found: list[int] = []
    for port in ports:
        if len(found) == count:
            return found
        if port not in others and is_free(LOOPBACK, port):
            found.append(port)
    raise OSError(f"no {count} free ports in {_FIRST}..{_LAST}")
