"""The address of a gateway: whether it lies on this machine."""

from __future__ import annotations

import ipaddress

LOCALHOST = "localhost"

_HOSTS = ("dns", "ipv4", "ipv6")
"""Schemes of gRPC whose addresses are hosts with a port. `unix` and `unix-abstract` name sockets of this machine."""


def is_loopback(address: str) -> bool:
    """Return whether `address`, in a form that gRPC dials, certainly lies on this machine.

    Only literal loopback addresses, `localhost` and Unix sockets count. Any other name does not, even if it leads to
    this machine now: it is looked up again at each connection, and the answer may change.
    """
    scheme, colon, rest = address.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return True
    if colon and scheme in _HOSTS:
        # `dns://server/name:port` has the name after the server that is asked for it.
        address = rest.removeprefix("//").partition("/")[2] if rest.startswith("//") else rest
    return all(_is_loopback_host(_host(part)) for part in address.split(","))


def _host(address: str) -> str:
    """Return the host of `host:port`, `[host]:port` or a host alone."""
    address = address.strip()
    if address.startswith("["):
        return address[1:].partition("]")[0]
    if address.count(":") > 1:
        return address
    return address.partition(":")[0]


def _is_loopback_host(host: str) -> bool:
    if host.lower() == LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
