from __future__ import annotations

import socket

from chroma_voice.local.ports import LOOPBACK, free_ports, is_free, ports_for


def test_ports_are_different_free_and_below_the_ephemeral_range() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert all(20_000 <= port < 32_000 for port in ports)
    sockets = [socket.create_server((LOOPBACK, port)) for port in ports]
    taken = set(ports)
    assert taken.isdisjoint(free_ports(200))
    for listener in sockets:
        listener.close()


def test_an_owner_has_the_same_ports_each_time_unless_one_is_taken() -> None:
    first = ports_for("/home/ann/state", ["http", "valkey"])
    assert ports_for("/home/ann/state", ["http", "valkey"]) == first
    assert ports_for("/home/ben/state", ["http", "valkey"]) != first
    with socket.create_server((LOOPBACK, first["http"])):
        assert not is_free(LOOPBACK, first["http"])
        second = ports_for("/home/ann/state", ["http", "valkey"])
    assert second["http"] != first["http"]
    assert second["valkey"] == first["valkey"]
