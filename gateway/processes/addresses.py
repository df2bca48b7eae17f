"""The addresses that several gateway processes share: all listen at the same port (SO_REUSEPORT)."""

from __future__ import annotations

import socket
from types import TracebackType

from services.common.errors import FailedPrecondition
from services.common.settings import Address, split_address


class ReservedAddress:
    """An address that was free, with its port. It does not listen: the processes do, each for itself."""

    def __init__(self, address: Address) -> None:
        """Port 0 becomes a free one. Raises FailedPrecondition when the address is taken."""
        host, port = split_address(address)
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as alone:  # another program may share its port too
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(place)
                place = (place[0], alone.getsockname()[1], *place[2:])
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(place)
        except OSError as error:
            raise FailedPrecondition(f"cannot listen on {address}: {error.strerror}") from None
        self.address = f"{host}:{place[1]}"

    def __enter__(self) -> ReservedAddress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
