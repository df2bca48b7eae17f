"""Addresses that several processes share."""

from __future__ import annotations

import socket

import pytest

from gateway.processes.addresses import ReservedAddress
from services.common.errors import FailedPrecondition


def listening(address: str, *, shared: bool) -> socket.socket:
    """A socket that listens there."""
    host, _, port = address.rpartition(":")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        listener.bind((host, int(port)))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def test_several_sockets_listen_at_a_reserved_address_and_no_program_that_does_not_share_it() -> None:
    with ReservedAddress("127.0.0.1:0") as reserved:
        assert not reserved.address.endswith(":0")
        one, other = (listening(reserved.address, shared=True) for _ in range(2))
        with one, other, pytest.raises(OSError, match="in use"):
            listening(reserved.address, shared=False)
    listening(reserved.address, shared=False).close()


@pytest.mark.parametrize("shared", [True, False])
def test_a_taken_address_is_refused_also_where_its_owner_would_share_it(shared: bool) -> None:
    with listening("127.0.0.1:0", shared=shared) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FailedPrecondition, match=f"cannot listen on {address}: Address already in use"):
            ReservedAddress(address)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match=r"cannot listen on 192\.0\.2\.1:50051"):
        ReservedAddress("192.0.2.1:50051")


def test_ipv6_addresses_keep_their_brackets() -> None:
    with ReservedAddress("[::1]:0") as reserved:
        assert reserved.address.startswith("[::1]:")
