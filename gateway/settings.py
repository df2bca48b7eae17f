"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gateway.call_settings import CallSettings
from gateway.identity_settings import IdentitySettings
from gateway.quota_settings import QuotaSettings
from gateway.server_settings import ServerSettings
from gateway.store_settings import StoreSettings
from services.common.settings import is_loopback, is_unix, split_address


class GatewaySettings(QuotaSettings, CallSettings, IdentitySettings, ServerSettings, StoreSettings):
    """Settings that the gateway adds to those of a gRPC process."""

    service: ClassVar[str] = "gateway"

    gateway_processes: int = Field(default=1, ge=1, le=64, validate_default=True)
    """Processes of the gateway behind its ports: one carries about what one CPU core can. The system gives each new
    connection to one of them. Limits and metrics are those of all together; a supervisor replaces a process that ends
    or hangs (docs/operations.md)."""

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
    c2pa_cert: Path | None = None
    """PEM file with the certificate chain that signs generated files (C2PA content credentials): whole answers of
    /v1/chat/completions in WAV, MP3 and FLAC, and FLAC of /v1/audio/speech. Needs the package c2pa-python. Unset: files
    are not signed."""
    c2pa_key: Path | None = Field(default=None, validate_default=True)
    """PEM file with the private key of CHROMA_C2PA_CERT."""
    audit_file: Path | None = None
    """File to which the audit log is appended, one for each gateway. Of several processes each has its own:
    `audit-1.log` and so on for `audit.log`. Unset: the audit records go to the process's log, under the logger
    `audit`."""

    default_voice: str = ""
    """The voice of clients that name none, or one of OpenAI's. Empty, or unknown to the tenant: the tenant's first
    voice."""
    transcribe: bool = False
    """Whether clients may ask for a transcript of the user's speech, and have recordings written down at
    `/v1/audio/transcriptions`. A transcript costs a further pass of the reasoner over the speech, of low
    priority: replies go first (docs/operations.md)."""

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
    """Most characters of user text, or of a reply's given text, in a turn; also of a reply of the past that a client
    adds to the history."""
    text_language: str = Field(default="en", max_length=35)
    """BCP 47 tag of the language of texts to say whose request names none. It decides how numbers, units and dates are
    read; `en` and `de` are known."""
    out_of_domain: Literal["warn", "refuse"] = "warn"
    """What happens to a text to say that the checkpoint cannot say, by its card: `warn` speaks it and names the
    sentences in the response, `refuse` ends the request with INVALID_ARGUMENT."""
    max_prompt_chars: int = Field(default=32_000, ge=1)
    """Most characters of a system prompt or of instructions. Longer ones are refused with INVALID_ARGUMENT."""
    realtime_items: int = Field(default=2_000, ge=1)
    """Most items of a conversation that a Realtime connection keeps. In a full conversation a client cannot create a
    further item, and a reply replaces the oldest one."""
    realtime_item_chars: int = Field(default=1_000_000, ge=1)
    """Most characters in the items that a Realtime client creates on one connection, in all."""
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

    open_timeout_s: float = Field(default=10.0, gt=0)
    """How long a Converse call may take to send its `open`. It holds no seat before it."""
    input_idle_s: float = Field(default=1.0, gt=0)
    """How long a turn that is not committed keeps its slot of the reasoner while no speech comes. The turn's input
    stays at the gateway, and the turn gets a slot again with further speech or with the commit."""
    drain_idle_s: float | None = Field(default=None, ge=0)
    """How long a drain lets conversations go on that are between two turns. Unset: CHROMA_DRAIN_S less its last 30 s,
    or less its last fifth if that is shorter. 0: not at all."""
    turn_speech_s: float = Field(default=0.2, ge=0, le=2)
    """Least speech that starts a turn, or interrupts a reply, where turn detection is on. Shorter sounds do not. A
    client may ask for another value."""
    ignore_echo: bool = False
    """Whether turn detection ignores sounds that are like the speech being played: the echo of a loudspeaker in clients
    that do not cancel it. It makes interruptions slower (docs/turn-taking.md). A client may ask for the other."""
    turn_gap_s: float = Field(default=1.5, gt=0)
    """How long the audio of a client may stay away in the middle of speech, beyond the silence that ends a turn. Then
    the turn ends, where turn detection is on: the microphone was muted."""
    idle_limit_s: float = Field(default=300.0, gt=0)
    """How long nothing may happen in a conversation before it is ended."""
    conversation_limit_s: float = Field(default=3_600.0, gt=0)
    """Longest conversation on one connection. The session lives on."""
    slow_client_s: float = Field(default=10.0, gt=0)
    """How long a client may take nothing of an answer, or no message, before it is cut off."""
    max_conversations: int = Field(default=1_000, ge=1)
    """Conversations served at once. A further one is refused with RESOURCE_EXHAUSTED."""

    @field_validator("c2pa_key")
    @classmethod
    def _key_of_c2pa_cert(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("c2pa_cert") is None):
            raise ValueError("expected CHROMA_C2PA_CERT and CHROMA_C2PA_KEY together")
        return value

    @field_validator("gateway_processes")
    @classmethod
    def _processes_share_a_port(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and is_unix(info.data.get("listen", "")):
            raise ValueError("expected CHROMA_LISTEN of host:port beside it: only one process can have a Unix socket")
        return value

    @model_validator(mode="after")
    def _callers_are_known(self) -> GatewaySettings:
        if self.has_identity or self.trusted_network:
            return self
        for name, address in (("CHROMA_LISTEN", self.listen), ("CHROMA_HTTP_LISTEN", self.http_listen)):
            if address and not is_loopback(split_address(address)[0]):
                raise ValueError(
                    f"{name} is {address}, which other machines can reach, and callers need no key: set "
                    "CHROMA_API_KEYS_FILE or CHROMA_OIDC_ISSUER, or CHROMA_TRUSTED_NETWORK=true (docs/operations.md)"
                )
        return self

    @field_validator("max_reply_s")
    @classmethod
    def _a_turn_has_time_for_the_longest_input_and_reply(cls, value: float, info: ValidationInfo) -> float:
        limit_s, max_input_s = info.data.get("turn_limit_s"), info.data.get("max_input_s")
        if limit_s is not None and max_input_s is not None and limit_s < max_input_s + value:
            needed = f"CHROMA_MAX_INPUT_S ({max_input_s:g}) + CHROMA_MAX_REPLY_S ({value:g})"
            raise ValueError(f"expected CHROMA_TURN_LIMIT_S of at least {needed}, got {limit_s:g}")
        return value
