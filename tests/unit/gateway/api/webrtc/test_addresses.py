"""The addresses of calls: where the gateway listens, what clients are told, and whom it may contact."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.api.webrtc.addresses import MediaAddresses
from gateway.settings import GatewaySettings


def _addresses(**changes: Any) -> MediaAddresses:
    settings = GatewaySettings(
        **{"reasoner": "a:1", "speech_gen": "b:1", "codec": "c:1", "redis_url": "redis://x", **changes}
    )
    return MediaAddresses.of(settings)


@pytest.mark.parametrize(
    ("listen", "hosts"),
    [("127.0.0.1:8080", ["127.0.0.1"]), ("[::1]:8080", ["::1"]), ("localhost:80", ["127.0.0.1"]), ("0.0.0.0:80", [])],
)
def test_calls_come_where_http_comes(listen: str, hosts: list[str]) -> None:
    assert _addresses(http_listen=listen, trusted_network=True).hosts == hosts


def test_an_advertised_address_takes_the_place_of_those_of_its_version() -> None:
    addresses = _addresses(webrtc_addresses="10.0.0.5,fd00::5", webrtc_advertise="203.0.113.9")
    assert addresses.told("10.0.0.5") == ["203.0.113.9"]
    assert addresses.told("fd00::5") == ["fd00::5"]


@pytest.mark.parametrize(
    ("contact", "address", "allowed"),
    [
        ("", "8.8.8.8", False),
        ("0.0.0.0/0,::/0", "8.8.8.8", True),
        ("0.0.0.0/0,::/0", "2a00:1450:4001:81b::200e", True),
        ("0.0.0.0/0,::/0", "10.0.0.7", False),
        ("0.0.0.0/0,::/0", "192.168.1.1", False),
        ("0.0.0.0/0,::/0", "169.254.169.254", False),
        ("0.0.0.0/0,::/0", "fd00::7", False),
        ("0.0.0.0/0,::/0", "::ffff:10.0.0.7", False),
        ("0.0.0.0/0,::/0", "0.0.0.0", False),
        ("10.0.0.0/8", "10.0.0.7", True),
        ("10.0.0.0/8", "192.168.1.1", False),
        ("127.0.0.0/8", "127.0.0.1", False),
        ("169.254.0.0/16", "169.254.169.254", False),
        ("224.0.0.0/4", "224.0.0.1", False),
    ],
)
def test_only_listed_networks_are_contacted_and_private_ones_only_by_name(
    contact: str, address: str, allowed: bool
) -> None:
    assert _addresses(webrtc_contact=contact).may_contact(ip_address(address)) is allowed


def test_a_turn_server_is_read_from_its_url() -> None:
    turn = _addresses(webrtc_turn="turns:me:secret@turn.example.com:5349").turn
    assert turn is not None
    assert (turn.host, turn.port, turn.user, turn.password, turn.is_tls) == (
        "turn.example.com",
        5_349,
        "me",
        "secret",
        True,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"webrtc_addresses": "example.com"},
        {"webrtc_ports": "5000"},
        {"webrtc_ports": "6000-5000"},
        {"webrtc_ports": "1-70000"},
        {"webrtc_contact": "10.0.0.0/99"},
        {"webrtc_stun": "stun.example.com"},
        {"webrtc_turn": "turn.example.com:3478"},
    ],
)
def test_what_cannot_be_is_refused_at_the_start(changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as failure:
        _addresses(**changes)
    assert "secret" not in str(failure.value)
