"""Settings of the gateway's servers: HTTP with its pages and WebSockets, and the connections of gRPC."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from gateway.call_settings import listed
from services.common.settings import Address, ServiceSettings, is_unix

_HOST_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_ORIGIN = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class ServerSettings(ServiceSettings):
    """Settings of the gateway's servers."""

    service: ClassVar[str] = "gateway"

    http_listen: Address = ""
    """Address of the HTTP server: the page, the OpenAI-shaped API, Realtime over WebSocket. Empty: there is none."""
    http_tls_cert: Path | None = None
    """PEM file with the certificate chain of the HTTP server. Unset: plain HTTP, as behind a proxy."""
    http_tls_key: Path | None = None
    """PEM file with the private key of CHROMA_HTTP_TLS_CERT."""
    http_hosts: str = ""
    """Names under which clients may call the HTTP server, separated by commas, such as `voice.example.com` or
    `*.example.com`. Loopback names and IP addresses are always allowed."""
    http_origins: str = ""
    """Other web sites whose pages may call the HTTP server, separated by commas, such as `https://app.example.com`.
    The gateway's own page may always."""
    http_behind_tls: bool = False
    """Whether browsers reach the HTTP server by TLS only, through a proxy that ends it. The gateway then expects pages
    of https and tells browsers to stay with TLS."""
    grpc_connections: int = Field(default=4_000, ge=1)
    """Most open connections of the gRPC server. A further one is closed at once. Of several processes each has an equal
    share."""
    grpc_streams: int = Field(default=100, ge=1)
    """Most calls at once on one gRPC connection. Clients wait with further ones."""
    grpc_idle_s: float = Field(default=300.0, gt=0)
    """How long a gRPC connection without a call is kept open."""
    grpc_ping_s: float = Field(default=5.0, gt=0)
    """Least time between two HTTP/2 pings of a client that gets no data. A client that pings more often loses its
    connection (`too_many_pings`)."""
    page_token: SecretStr = SecretStr("")
    """Token that browsers must send with each call of the API while no API keys are set. `chroma-voice up` makes one at
    each start, and prints the page's address with it. Empty: browsers need none."""
    http_head_s: float = Field(default=10.0, gt=0)
    """Longest time for the head of a request, from its first byte or the connection on, and for a TLS handshake."""
    http_min_rate: float = Field(default=4_096.0, gt=0)
    """Least speed at which a client must send a request's body, after a first CHROMA_HTTP_HEAD_S, and take a response.
    A slower client is cut off."""
    http_idle_s: int = Field(default=75, ge=1)
    """How long a connection is kept open after a response, for a next request: longer than proxies in front keep it."""
    websocket_ping_s: float = Field(default=20.0, gt=0)
    """Time between two pings on a Realtime WebSocket: shorter than proxies in front keep a silent connection."""
    websocket_pong_s: float = Field(default=20.0, gt=0)
    """How long a client may send nothing after a ping before its WebSocket is closed."""
    http_connections: int = Field(default=4_000, ge=1)
    """Most open connections of the HTTP server. A further one gets status 503."""
    http_peer_connections: int = Field(default=1_000, ge=1)
    """Most of them from one IPv4 address or IPv6 network (/64). All clients of a proxy have the proxy's address.
    Of several processes each has an equal share."""
    http_body_bytes: int = Field(default=128 * 1024 * 1024, ge=1)
    """Most bytes that the bodies of all running HTTP requests hold together; those of one key hold at most half of it.
    A further request gets status 429. Less than twice CHROMA_MAX_MESSAGE_BYTES counts as that."""
    realtime_message_bytes: int = Field(default=2 * 1024 * 1024, ge=65_536)
    """Largest message on a Realtime WebSocket. 2 MiB hold 32 s of PCM, 21 MiB the 15 MiB of audio that OpenAI's
    specification allows in one event. A larger message closes the connection with code 1009."""

    @property
    def http_host_names(self) -> list[str]:
        """The names of CHROMA_HTTP_HOSTS, in lower case."""
        return listed(self.http_hosts)

    @property
    def http_allowed_origins(self) -> list[str]:
        """The origins of CHROMA_HTTP_ORIGINS, in the form in which browsers send them."""
        origins = listed(self.http_origins)
        return [origin.removesuffix(_DEFAULT_PORTS[origin.partition(":")[0]]) for origin in origins]

    @field_validator("http_hosts")
    @classmethod
    def _hosts_are_names(cls, value: str) -> str:
        for name in listed(value):
            if not _HOST_NAME.fullmatch(name):
                raise ValueError(f"expected names without a port, such as voice.example.com, got {name!r}")
        return value

    @field_validator("http_origins")
    @classmethod
    def _origins_are_origins(cls, value: str) -> str:
        for origin in listed(value):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"expected origins without a path, such as https://app.example.com, got {origin!r}")
        return value

    @field_validator("http_listen")
    @classmethod
    def _is_not_a_unix_socket(cls, value: str) -> str:
        if is_unix(value):
            raise ValueError("expected host:port: the HTTP server does not listen on a Unix socket")
        return value
