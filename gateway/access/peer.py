"""The network address of a caller, and whether it calls from the gateway's own machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

Network = IPv4Network | IPv6Network

_OF_PROXIES = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers that a proxy adds. A request with one of them came from somewhere else, whatever its socket says."""


@dataclass(frozen=True)
class Peer:
    """Where a request comes from."""

    address: str
    """The address without its port; empty when it is not known."""
    is_local: bool
    """Whether the caller runs on this machine: it came over loopback or a Unix socket, and through no proxy."""


def http_peer(host: str | None, headers: Mapping[str, str], proxies: Sequence[Network]) -> Peer:
    """Return the peer of an HTTP request. `host`: the other side of its socket.

    When that side is one of `proxies`, the address is the last one in `X-Forwarded-For` that is not a proxy's.
    """
    address = _parsed(host or "")
    if address is None:
        return Peer("", is_local=False)
    is_local = address.is_loopback and not any(name in headers for name in _OF_PROXIES)
    if _is_in(address, proxies):
        for hop in reversed(headers.get("x-forwarded-for", "").split(",")):
            forwarded = _parsed(hop.strip())
            if forwarded is None:
                break
            address = forwarded
            if not _is_in(address, proxies):
                break
    return Peer(str(address), is_local)


def grpc_peer(peer: str, metadata: Mapping[str, str], proxies: Sequence[Network]) -> Peer:
    """Return the peer of a gRPC call. `peer`: gRPC's text, such as `ipv4:10.0.0.1:5000`, `ipv6:%5B::1%5D:5000` or
    `unix:/path`."""
    kind, _, rest = unquote(peer).partition(":")
    if kind in ("unix", "unix-abstract"):
        return Peer("unix", is_local=not any(name in metadata for name in _OF_PROXIES))
    host = rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else None
    return http_peer(host, metadata, proxies)


def proxy_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a list such as `10.0.0.0/8, 192.168.1.7`. Raises ValueError."""
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def _parsed(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
