"""Where the gateway takes the sound of calls, and which addresses of clients it may contact."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.call_settings import TURN_SERVER, listed
from gateway.settings import GatewaySettings
from services.common.settings import split_address

_ANY = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class TurnServer:
    """A server that relays calls."""

    host: str
    port: int
    user: str
    password: str
    is_tls: bool


@dataclass(frozen=True)
class MediaAddresses:
    """The addresses and ports of calls."""

    hosts: Sequence[str]
    """Addresses to listen at. Empty: all of the machine but loopback."""
    ports: range | None
    advertised: Sequence[str]
    """Addresses that clients are told in place of the own ones. Empty: the own ones."""
    stun: tuple[str, int] | None
    turn: TurnServer | None
    contact: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
    """The clients that the gateway may send to before they have sent anything."""

    @classmethod
    def of(cls, settings: GatewaySettings) -> MediaAddresses:
        """The addresses that the settings name."""
        hosts = listed(settings.webrtc_addresses)
        if not hosts:
            host = split_address(settings.http_listen)[0].strip("[]") if settings.http_listen else "127.0.0.1"
            hosts = [] if host in _ANY else ["127.0.0.1" if host == "localhost" else host]
        turn = TURN_SERVER.fullmatch(settings.webrtc_turn.get_secret_value())
        return cls(
            hosts,
            settings.webrtc_port_range,
            listed(settings.webrtc_advertise),
            split_address(settings.webrtc_stun) if settings.webrtc_stun else None,
            TurnServer(turn[4], int(turn[5]), turn[2], turn[3], turn[1] == "turns") if turn else None,
            [ipaddress.ip_network(network, strict=False) for network in listed(settings.webrtc_contact)],
        )

    def told(self, host: str) -> list[str]:
        """The addresses that clients are told for one of the own ones: those of the same IP version, or itself."""
        version = ipaddress.ip_address(host).version
        instead = [address for address in self.advertised if ipaddress.ip_address(address).version == version]
        return instead or [host]

    def may_contact(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Whether the gateway may send to this address because an offer names it.

        A network that is larger than all private ones does not stand for those: an offer could make the gateway probe
        the machines behind it. Loopback, link-local and multicast addresses are never contacted.
        """
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
            return False
        networks = [network for network in self.contact if address in network]
        return bool(networks) if address.is_global else any(network.is_private for network in networks)
