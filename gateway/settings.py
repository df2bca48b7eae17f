"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, ValidationInfo, field_validator

from services.common.settings import Address, ServiceSettings


class GatewaySettings(ServiceSettings):
    """Settings that the gateway adds to those of a gRPC process."""

    service: ClassVar[str] = "gateway"

    http_listen: Address = ""
    """Address of the HTTP server: the page, the OpenAI-shaped API, Realtime over WebSocket. Empty: there is none."""
    http_tls_cert: Path | None = None
    """PEM file with the certificate chain of the HTTP server. Unset: plain HTTP, as behind a proxy."""
    http_tls_key: Path | None = None
    """PEM file with the private key of CHROMA_HTTP_TLS_CERT."""
    api_keys: dict[str, str] = Field(default_factory=dict)
    """API keys and the tenant of each: `{"KEY": "TENANT"}`. Empty: callers are trusted and need no key."""

    reasoner: str
    """Address of the reasoner: `host:port`, several separated by commas, or `dns:///name:port` for one replica at each
    address of a name."""
    speech_gen: str
    """Address of the speech generator, in the same forms."""
    codec: str
    """Address of the codec, in the same forms."""
    services_tls_ca: Path | None = None
    """PEM file with the authority that signed the certificates of the services. Their names are reasoner, speech-gen
    and codec. Unset: no TLS between the gateway and the services."""
    services_tls_cert: Path | None = None
    """PEM file with the certificate chain that the gateway shows to the services. Unset: it shows none."""
    services_tls_key: Path | None = None
    """PEM file with the private key of CHROMA_SERVICES_TLS_CERT."""
    redis_url: str
    """URL of the store, such as `redis://:password@host:6379/0`. The store needs an append-only file."""

    default_voice: str = ""
    """The voice of clients that name none, or one of OpenAI's. Empty, or unknown to the tenant: the tenant's first
    voice."""
    transcribe: bool = False
    """Whether clients may ask for a transcript of the user's speech. A transcript costs a further pass of the reasoner
    over the speech of each turn."""

    max_connection_age_grace_s: float = Field(default=3_630.0, ge=0)
    """Time that running calls have to finish on a connection past its age: longer than the longest conversation."""

    turn_limit_s: float = Field(default=450.0, gt=0)
    """Longest turn, from its first input to the end of its speech. It is at least CHROMA_MAX_INPUT_S and
    CHROMA_MAX_REPLY_S together, since a paced reply takes as long as its speech."""
    stage_patience_s: float = Field(default=60.0, gt=0)
    """Longest wait for the next response of a service, once the input of the turn is complete. The turn then fails with
    UNAVAILABLE."""
    max_input_s: float = Field(default=120.0, gt=0)
    """Most user speech in a turn."""
    max_input_chars: int = Field(default=20_000, ge=1)
    """Most characters of user text, or of a reply's given text, in a turn."""
    max_reply_s: float = Field(default=300.0, gt=0, validate_default=True)
    """Longest speech of a reply. A session may ask for less."""

    history_turns: int = Field(default=32, ge=1)
    """Most turns that a session remembers. Older ones are dropped."""
    history_audio_s: float = Field(default=180.0, gt=0)
    """Most user speech that a session remembers."""
    session_ttl_s: int = Field(default=86_400, ge=1)
    """How long an unused session is kept."""
    audio_ttl_s: int = Field(default=86_400, ge=1)
    """How long the user speech of an unused session is kept. A turn without its speech is dropped from the history."""

    voice_embeddings: int = Field(default=256, ge=1)
    """Most embeddings of cloned voices that the store keeps for a tenant; the least recently used one leaves first."""
    voice_embeddings_bytes: int = Field(default=128 * 1024 * 1024, ge=0)
    """Most bytes of these embeddings, for each tenant. 0: none are kept, and every replica computes its own."""

    idle_limit_s: float = Field(default=300.0, gt=0)
    """How long nothing may happen in a conversation before it is ended."""
    conversation_limit_s: float = Field(default=3_600.0, gt=0)
    """Longest conversation on one connection. The session lives on."""
    slow_client_s: float = Field(default=10.0, gt=0)
    """How long a client may take no message before it is cut off."""
    max_conversations: int = Field(default=1_000, ge=1)
    """Conversations served at once. A further one is refused with RESOURCE_EXHAUSTED."""

    @field_validator("max_reply_s")
    @classmethod
    def _a_turn_has_time_for_the_longest_input_and_reply(cls, value: float, info: ValidationInfo) -> float:
        limit_s, max_input_s = info.data.get("turn_limit_s"), info.data.get("max_input_s")
        if limit_s is not None and max_input_s is not None and limit_s < max_input_s + value:
            needed = f"CHROMA_MAX_INPUT_S ({max_input_s:g}) + CHROMA_MAX_REPLY_S ({value:g})"
            raise ValueError(f"expected CHROMA_TURN_LIMIT_S of at least {needed}, got {limit_s:g}")
        return value
