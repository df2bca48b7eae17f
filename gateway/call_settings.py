"""Settings of the gateway for calls: over WebRTC, and of telephones by Twilio's media streams."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from services.common.settings import ServiceSettings, split_address

TURN_SERVER = re.compile(r"(turns?):([^:@\s]+):([^@\s]+)@([A-Za-z0-9_.-]+):([0-9]{1,5})")
"""A TURN server: scheme, user, password, host and port."""


def listed(value: str) -> list[str]:
    """The names that commas separate in `value`, in lower case."""
    return [name.strip().lower() for name in value.split(",") if name.strip()]


class CallSettings(ServiceSettings):
    """Settings of a gateway's calls."""

    service: ClassVar[str] = "gateway"

    webrtc_calls: int = Field(default=16, ge=0)
    """Most WebRTC calls at once at each process of this gateway: as many as one carries. A further one gets status 429.
    0: /v1/realtime/calls takes none. Calls need the package aiortc (the extra `webrtc`)."""
    webrtc_addresses: str = ""
    """IP addresses of this machine at which the gateway takes the sound and the data of WebRTC calls, over UDP,
    separated by commas. Empty: the address of CHROMA_HTTP_LISTEN; all of the machine when that is 0.0.0.0 or [::]."""
    webrtc_ports: str = ""
    """The UDP ports for them, as `FIRST-LAST`. A call takes one port at each address. Empty: any free port."""
    webrtc_advertise: str = ""
    """IP addresses that clients are told in their place, separated by commas, where a router or a container host passes
    the same ports on. Empty: the addresses themselves."""
    webrtc_stun: str = ""
    """A STUN server, as `host:port`, which tells the gateway its public address for each call. Empty: none."""
    webrtc_turn: SecretStr = SecretStr("")
    """A TURN server that relays calls, as `turn:USER:PASSWORD@host:port`, or `turns:` for TLS. Empty: none. It needs
    CHROMA_WEBRTC_CONTACT."""
    webrtc_contact: str = ""
    """Networks of clients which the gateway may contact first, separated by commas, such as `0.0.0.0/0,::/0`, for a
    gateway that is not reachable itself. Private networks count only where they are listed by themselves. Empty: the
    gateway sends only to addresses from which a client has proved that it knows the call."""
    webrtc_connect_s: float = Field(default=20.0, gt=0)
    """How long a WebRTC call may take to connect. It holds the place of a conversation meanwhile."""

    twilio_streams: bool = True
    """Whether the gateway takes telephone calls by Twilio's media streams, at /v1/twilio/media-stream."""
    twilio_auth_token: SecretStr = SecretStr("")
    """The auth token of the Twilio account. The gateway then takes only streams that carry the account's signature
    (`X-Twilio-Signature`), beside the key that each stream needs. Empty: it checks no signature."""

    @property
    def webrtc_port_range(self) -> range | None:
        """The ports of `webrtc_ports`. None: any."""
        first, _, last = self.webrtc_ports.partition("-")
        return range(int(first), int(last) + 1) if first else None

    @field_validator("webrtc_addresses", "webrtc_advertise")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for address in listed(value):
            ip_address(address)
        return value

    @field_validator("webrtc_ports")
    @classmethod
    def _are_ports(cls, value: str) -> str:
        first, separator, last = value.partition("-")
        numbers = separator and first.isdecimal() and last.isdecimal()
        if value and not (numbers and 0 < int(first) <= int(last) < 65_536):
            raise ValueError(f"expected FIRST-LAST, such as 50000-50999, got {value!r}")
        return value

    @field_validator("webrtc_contact")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for network in listed(value):
            ip_network(network, strict=False)
        return value

    @field_validator("webrtc_stun")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("webrtc_turn")
    @classmethod
    def _is_a_turn_server(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not TURN_SERVER.fullmatch(value.get_secret_value()):
            raise ValueError("expected turn:USER:PASSWORD@host:port")
        return value
