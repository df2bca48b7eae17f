from __future__ import annotations

import socket

from chroma_voice.local.ports import LOOPBACK, free_ports


def test_ports_are_different_free_and_below_the_ephemeral_range() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert all(20_000 <= port < 32_000 for port in ports)
    sockets = [socket.create_server((LOOPBACK, port)) for port in ports]
    taken = set(ports)
    assert taken.isdisjoint(free_ports(200))
    for listener in sockets:
        listener.close()
