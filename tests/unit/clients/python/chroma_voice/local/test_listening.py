from __future__ import annotations

import socket

import pytest

from chroma_voice.errors import ChromaError
from chroma_voice.local.listening import check_form, check_free, check_shared
from chroma_voice.local.ports import LOOPBACK, free_ports


@pytest.mark.parametrize("address", ["", "unix:/tmp/gateway.sock", f"{LOOPBACK}:0"])
def test_addresses_where_one_can_listen_pass(address: str) -> None:
    check_form(address, "--http")
    check_free(address, "--http")


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1:", "127.0.0.1:80a", "127.0.0.1:65536", "http://127.0.0.1:80", "192.0.2.1:8080"]
)
def test_what_is_no_address_of_this_machine_is_refused_with_its_option(address: str) -> None:
    with pytest.raises(ChromaError, match=r"^--http: "):  # noqa: PT012
        check_form(address, "--http")
        check_free(address, "--http")


@pytest.mark.parametrize("address", ["", "unix:/tmp/gateway.sock"])
def test_several_processes_need_a_port(address: str) -> None:
    check_shared(address, 1)
    check_shared(f"{LOOPBACK}:50051", 2)
    with pytest.raises(ChromaError, match=r"--gateway-processes 2: only one .* give --gateway"):
        check_shared(address, 2)


def test_a_taken_port_is_told() -> None:
    (port,) = free_ports(1)
    with socket.create_server((LOOPBACK, port)), pytest.raises(ChromaError, match=f"--gateway: port {port} is taken"):
        check_free(f"{LOOPBACK}:{port}", "--gateway")
