from __future__ import annotations

import pytest

from chroma_voice.address import is_loopback


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50051",
        "127.9.8.7:1",
        "localhost:50051",
        "LOCALHOST:50051",
        "localhost",
        "[::1]:50051",
        "::1",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
        "ipv6:[::1]:1",
        "dns:localhost:1",
        "dns:///localhost:1",
        "dns://10.0.0.1/localhost:1",
        "unix:/run/gateway.sock",
        "unix-abstract:gateway",
    ],
)
def test_a_literal_loopback_address_lies_on_this_machine(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:50051",
        "0.0.0.0:50051",
        "[2001:db8::1]:50051",
        "voice.example.com:443",
        "localhost.example.com:443",
        "127.0.0.1.nip.io:50051",
        "127.0.0.1@example.com:50051",
        "unix.example.com:1",
        "unix",
        "ipv4:127.0.0.1:1,10.0.0.1:2",
        "dns:///gateway:50051",
        "dns://127.0.0.1/gateway:50051",
        "xds:///localhost",
        "",
    ],
)
def test_another_address_or_name_does_not(address: str) -> None:
    assert not is_loopback(address)
