"""The bounds of what a client may send to the socket of a call."""

from __future__ import annotations

import pytest

from gateway.api.webrtc.addresses import MediaAddresses
from gateway.api.webrtc.ice import IceConnection, IceGatherer

_ADDRESSES = MediaAddresses(["127.0.0.1"], None, ["203.0.113.9"], None, None, [])


def _sound(source: int, size: int = 200) -> bytes:
    return b"\x80\x6f" + bytes(6) + source.to_bytes(4, "big") + bytes(size - 12)


async def test_a_client_that_sends_too_much_is_not_heard() -> None:
    connection = IceConnection(_ADDRESSES)
    taken = sum(connection.takes(_sound(1, 1_200)) for _ in range(5_000))
    assert 1_600 < taken < 1_800, "two megabytes at once"
    assert not connection.takes(_sound(1, 1_200))


async def test_a_client_has_a_few_sources_of_sound() -> None:
    connection = IceConnection(_ADDRESSES)
    assert [connection.takes(_sound(source)) for source in range(10)] == [True] * 8 + [False] * 2
    assert connection.takes(_sound(3))
    assert connection.takes(b"\x16" + bytes(40)), "DTLS has no source"
    assert connection.takes(b"\x80\xc8" + bytes(26)), "reports of a source have none of their own"


async def test_clients_are_told_the_advertised_address_with_the_own_port() -> None:
    gatherer = IceGatherer(_ADDRESSES)
    await gatherer.gather()
    try:
        (candidate,) = gatherer.candidates(_ADDRESSES.told)
        (own,) = gatherer.connection.local_candidates
        assert candidate.split()[4:8] == ["203.0.113.9", str(own.port), "typ", "host"]
    finally:
        await gatherer.connection.close()


@pytest.mark.parametrize("ports", [range(40_000, 40_100)])
async def test_the_port_of_a_call_is_in_the_range(ports: range) -> None:
    gatherer = IceGatherer(MediaAddresses(["127.0.0.1"], ports, [], None, None, []))
    await gatherer.gather()
    (own,) = gatherer.connection.local_candidates
    await gatherer.connection.close()
    assert own.port in ports
