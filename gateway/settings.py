"""Settings of the gateway, each read from `CHROMA_<FIELD>`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.common.settings import Address, ServiceSettings


class GatewaySettings(ServiceSettings):
    """What the gateway adds to a gRPC process."""

    service: ClassVar[str] = "gateway"

    http_listen: Address = ""
    """Where HTTP listens: the page, the OpenAI-shaped API, Realtime over WebSocket. Empty: nowhere."""
    http_tls_cert: Path | None = None
    """PEM certificate chain that the HTTP side shows. Unset: plain HTTP, as behind a proxy or on this machine."""
    http_tls_key: Path | None = None
    """PEM private key of `http_tls_cert`."""
    api_keys: dict[str, str] = Field(default_factory=dict)
    """API keys and the tenant of each, as JSON: `{"KEY": "TENANT"}`. Empty: callers are trusted and need no key."""

    reasoner: str
    """The reasoner: `host:port`, several with commas, or `dns:///name:port` for a replica at each address of a name."""
    speech_gen: str
    """The speech generator, likewise."""
    codec: str
    """The codec, likewise."""
    services_tls_ca: Path | None = None
    """PEM certificates of the authority of the services' certificates, which are for the names reasoner, speech-gen
    and codec. Unset: no TLS between the gateway and the services."""
    services_tls_cert: Path | None = None
    """PEM certificate chain that the gateway shows to the services. Unset: none."""
    services_tls_key: Path | None = None
    """PEM private key of `services_tls_cert`."""
    redis_url: str
    """The store, such as `redis://:password@host:6379/0`. Run it with an append-only file; see `store.py`."""

    default_voice: str = ""
    """The voice of clients that name none, or one of OpenAI's. Empty, or unknown to a tenant: its first one."""
    transcribe: bool = False
    """Whether clients may ask what the user said: a further pass of the reasoner over each turn's speech."""

    max_connection_age_grace_s: float = Field(default=3_630.0, ge=0)
    """How long running calls may still take on a connection past its age: longer than the longest conversation."""

    turn_limit_s: float = Field(default=300.0, gt=0)
    """Longest turn, from its first input to the end of its speech."""
    stage_patience_s: float = Field(default=60.0, gt=0)
    """How long a connected stage may owe an answer before it is taken for hanging."""
    max_input_s: float = Field(default=120.0, gt=0)
    """Most seconds of user speech in a turn."""
    max_input_chars: int = Field(default=20_000, ge=1)
    """Most characters of user text, or of a given reply, in a turn."""
    max_reply_s: float = Field(default=300.0, gt=0)
    """Most seconds of speech in a reply; a session may ask for less."""

    history_turns: int = Field(default=32, ge=1)
    """Most turns a session remembers; older ones are dropped."""
    history_audio_s: float = Field(default=180.0, gt=0)
    """Most seconds of user speech a session remembers."""
    session_ttl_s: int = Field(default=86_400, ge=1)
    """How long an unused session is kept."""
    audio_ttl_s: int = Field(default=86_400, ge=1)
    """How long the user speech of an unused session is kept. A turn without its speech is dropped from the history."""

    idle_limit_s: float = Field(default=300.0, gt=0)
    """A conversation in which nothing happens for this long is ended."""
    conversation_limit_s: float = Field(default=3_600.0, gt=0)
    """Longest conversation on one connection; the session lives on."""
    slow_client_s: float = Field(default=10.0, gt=0)
    """A client that takes no message for this long is cut off."""
    max_conversations: int = Field(default=1_000, ge=1)
    """Conversations served at once; a further one is refused with RESOURCE_EXHAUSTED."""
