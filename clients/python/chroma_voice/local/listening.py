"""Checks of an address before a process listens there."""

from __future__ import annotations

from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.local.ports import is_free


def check_form(address: str, option: str) -> None:
    """Raise `InvalidArgument` for an address of `option` that is no host:port. Empty ones and Unix sockets pass."""
    if not address or address.startswith("unix:"):
        return
    _, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or "/" in address:
        raise InvalidArgument(f"{option}: expected host:port such as 127.0.0.1:8080, got {address!r}")


def check_shared(address: str, processes: int) -> None:
    """Raise `InvalidArgument` where so many processes of the gateway cannot listen at this address. Empty: the default,
    which is a Unix socket."""
    if processes > 1 and (not address or address.startswith("unix:")):
        raise InvalidArgument(
            f"--gateway-processes {processes}: only one process can listen on a Unix socket; "
            "give --gateway 127.0.0.1:50051 or another port"
        )


def check_free(address: str, option: str) -> None:
    """Raise `FailedPrecondition` where another program listens or the host is not of this machine.

    `check_form` comes before.
    """
    if not address or address.startswith("unix:"):
        return
    host, _, port = address.rpartition(":")
    try:
        free = is_free(host.strip("[]") or "0.0.0.0", int(port))
    except OSError as error:
        raise FailedPrecondition(f"{option}: cannot listen on {address}: {error.strerror or error}") from None
    if not free:
        raise FailedPrecondition(f"{option}: port {port} is taken by another program, or only root may use it")
