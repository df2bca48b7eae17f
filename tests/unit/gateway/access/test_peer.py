"""Peers: addresses, and which callers are on this machine."""

from __future__ import annotations

import pytest

from gateway.access.peer import Peer, grpc_peer, http_peer, proxy_networks

PROXIES = proxy_networks("10.0.0.0/8, 127.0.0.1,fd00::/8")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_local(host: str) -> None:
    assert http_peer(host, {}, ()).is_local


@pytest.mark.parametrize(
    "host", ["192.168.1.5", "::ffff:192.168.1.5", "fe80::1%eth0", "2001:db8::1", "", "testclient", None]
)
def test_every_other_address_is_not_local(host: str | None) -> None:
    assert not http_peer(host, {}, ()).is_local


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-real-ip", "via"])
def test_a_request_through_a_proxy_on_this_machine_is_not_local(header: str) -> None:
    assert http_peer("127.0.0.1", {header: "127.0.0.1"}, ()) == Peer("127.0.0.1", is_local=False)
    assert http_peer("127.0.0.1", {header: "127.0.0.1"}, PROXIES) == Peer("127.0.0.1", is_local=False)
    assert not grpc_peer("ipv4:127.0.0.1:5000", {header: "127.0.0.1"}, ()).is_local
    assert not grpc_peer("unix:/run/gateway", {header: "127.0.0.1"}, ()).is_local


@pytest.mark.parametrize(
    ("host", "forwarded", "address"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # no proxy of ours: its header is its own invention
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
    ],
)
def test_a_proxy_of_ours_names_the_caller_and_nobody_else_does(host: str, forwarded: str, address: str) -> None:
    assert http_peer(host, {"x-forwarded-for": forwarded}, PROXIES) == Peer(address, is_local=False)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:127.0.0.1:5000", Peer("127.0.0.1", is_local=True)),
        ("ipv6:%5B::1%5D:5000", Peer("::1", is_local=True)),
        ("ipv6:[::1]:5000", Peer("::1", is_local=True)),
        ("ipv4:203.0.113.9:5000", Peer("203.0.113.9", is_local=False)),
        ("ipv6:%5B2001:db8::1%5D:5000", Peer("2001:db8::1", is_local=False)),
        ("unix:/run/gateway.sock", Peer("unix", is_local=True)),
        ("unix-abstract:gateway", Peer("unix", is_local=True)),
        ("", Peer("", is_local=False)),
        ("vsock:3:4", Peer("", is_local=False)),
    ],
)
def test_a_peer_of_grpc(peer: str, expected: Peer) -> None:
    assert grpc_peer(peer, {}, ()) == expected
