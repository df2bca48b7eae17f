"""Settings of the gateway."""

from __future__ import annotations

import base64
import binascii
import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from gateway.call_settings import CallSettings, listed
from gateway.quota_settings import QuotaSettings
from services.common.settings import Address, is_loopback, is_unix, split_address

TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""The names that a tenant can have."""

_HOST_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_ORIGIN = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_STORE_KEY_BYTES = 32
_STORE_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")


def is_safe_url(url: str) -> bool:
    """Whether what a URL answers can be believed: it is https, or http on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


class GatewaySettings(QuotaSettings, CallSettings):
    """Settings that the gateway adds to those of a gRPC process."""

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

    api_keys_file: Path | None = None
    """JSON file with the hashes of the API keys, such as a mounted Secret: `{"keys": [{"id", "sha256", "tenant",
    "scopes", "expires"}]}` (docs/operations.md). The gateway reads it again when it changes."""
    api_keys: SecretStr | None = None
    """API keys in plain text and the tenant of each, as JSON: `{"KEY": "TENANT"}`. They have the scopes talk and
    voices. For tests and a first try: prefer CHROMA_API_KEYS_FILE."""
    oidc_issuer: str = ""
    """URL of the identity provider whose tokens (OpenID Connect, JWT) the gateway accepts beside API keys. It stands in
    the claim `iss`. Empty: it accepts none."""
    oidc_audience: str = ""
    """What stands in the claim `aud` of a token for this gateway. Required with CHROMA_OIDC_ISSUER."""
    oidc_jwks_url: str = ""
    """URL of the provider's public keys. Empty: the one that `ISSUER/.well-known/openid-configuration` names."""
    oidc_tenant_claim: str = "tenant"
    """The claim with the tenant of a token."""
    oidc_scope_claim: str = "scope"
    """The claim with the scopes of a token: talk, voices, admin, separated by spaces or as a list. Other
    names are ignored."""
    trusted_network: bool = False
    """Whether each machine that can reach the gateway's ports is trusted. The gateway then listens beyond loopback also
    without keys and identity provider. All callers belong to the tenant `default`, and each may do everything."""
    trusted_proxies: str = ""
    """Addresses or networks of the proxies before the gateway, separated by commas, such as `10.0.0.0/8`. Their
    `X-Forwarded-For` names the caller in logs. Empty: the gateway believes no such header."""
    reflection: bool = False
    """Whether the gateway describes its rpcs by gRPC reflection also when it has keys or an identity provider. Without
    these it does so always."""

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
    redis_url: str = Field(repr=False)
    """URL of the store, such as `redis://:password@host:6379/0`, or `rediss://user:password@host:6379/0` with TLS. A
    cluster: `redis+cluster://user:password@host:6379,host:6379`. The primary that Sentinels name:
    `redis+sentinel://user:password@host:26379,host:26379/NAME`. Both have a `rediss+` form too, and `valkey` may stand
    for `redis`. The store needs an append-only file."""
    store_replicas: int = Field(default=0, ge=0, le=10)
    """On how many replicas' disks a write must be too, before the gateway acknowledges it. 0: a failover may lose what
    was written in the last moment. With 1 nothing is lost, and without a replica that answers there are no writes:
    give each primary two."""
    redis_tls_ca: Path | None = None
    """PEM file with the authority that signed the store's certificate. Unset: the authorities of the system. It needs a
    `rediss://` URL, as do the next two."""
    redis_tls_cert: Path | None = None
    """PEM file with the certificate chain that the gateway shows to the store. Unset: it shows none."""
    redis_tls_key: Path | None = None
    """PEM file with the private key of CHROMA_REDIS_TLS_CERT."""
    require_durable: bool = True
    """Whether the gateway acknowledges a write only when the store confirms that it is on disk. Off: the gateway warns
    and acknowledges writes that the store may lose when it ends, as with a managed store without WAITAOF."""
    store_keys: SecretStr = Field(default=SecretStr(""), validate_default=True)
    """Keys that encrypt voices, consents and sessions in the store, as `id:base64,id:base64`, 32 bytes each. The first
    one encrypts, all of them decrypt. Empty: the values are not encrypted."""
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

    @field_validator("c2pa_key")
    @classmethod
    def _key_of_c2pa_cert(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("c2pa_cert") is None):
            raise ValueError("expected CHROMA_C2PA_CERT and CHROMA_C2PA_KEY together")
        return value

    @field_validator("store_keys")
    @classmethod
    def _can_be_read(cls, value: SecretStr) -> SecretStr:
        parse_store_keys(value.get_secret_value())
        return value

    @field_validator("http_listen")
    @classmethod
    def _is_not_a_unix_socket(cls, value: str) -> str:
        if is_unix(value):
            raise ValueError("expected host:port: the HTTP server does not listen on a Unix socket")
        return value

    @field_validator("gateway_processes")
    @classmethod
    def _processes_share_a_port(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and is_unix(info.data.get("listen", "")):
            raise ValueError("expected CHROMA_LISTEN of host:port beside it: only one process can have a Unix socket")
        return value

    @property
    def has_identity(self) -> bool:
        """Whether callers must prove who they are."""
        return bool(self.api_keys_file or self.tenants_by_key or self.oidc_issuer)

    @property
    def tenants_by_key(self) -> dict[str, str]:
        """The keys of `api_keys`, in plain text, and their tenants."""
        return json.loads(self.api_keys.get_secret_value()) if self.api_keys else {}

    @field_validator("api_keys")
    @classmethod
    def _keys_and_tenants(cls, value: SecretStr | None) -> SecretStr | None:
        """No message has any text of the value: it may be a key."""
        if value is None:
            return None
        try:
            tenants = json.loads(value.get_secret_value())
        except (ValueError, RecursionError):
            raise ValueError("expected a JSON object") from None
        if not isinstance(tenants, dict) or not all(isinstance(tenant, str) for tenant in tenants.values()):
            raise ValueError('expected a JSON object such as {"KEY": "TENANT"}')
        if not all(key.strip() for key in tenants):
            raise ValueError("expected no empty key")
        if not all(TENANT.fullmatch(tenant) for tenant in tenants.values()):
            raise ValueError("expected tenants of 1 to 64 letters, digits, '.', '_' and '-'")
        return value

    @field_validator("oidc_issuer", "oidc_jwks_url")
    @classmethod
    def _no_one_can_change_the_answer(cls, value: str) -> str:
        if value and not is_safe_url(value):
            raise ValueError("expected an https URL, or an http URL on this machine")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in value.split(","):
            if part.strip():
                ip_network(part.strip(), strict=False)
        return value

    @model_validator(mode="after")
    def _callers_are_known(self) -> GatewaySettings:
        if bool(self.oidc_issuer) != bool(self.oidc_audience):
            raise ValueError("expected CHROMA_OIDC_ISSUER and CHROMA_OIDC_AUDIENCE together")
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


def parse_store_keys(text: str) -> dict[str, bytes]:
    """Return the keys of `id:base64,id:base64`, in this order.

    Raises ValueError, whose message holds no part of a key.
    """
    keys: dict[str, bytes] = {}
    for place, item in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        key_id, _, encoded = item.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not _STORE_KEY_ID.fullmatch(key_id) or len(key) != _STORE_KEY_BYTES:
            raise ValueError(
                f"key {place}: expected `id:base64` with an id of 1 to 32 letters, digits, '.', '_' and '-', and "
                f"{_STORE_KEY_BYTES} bytes in base64"
            )
        if key_id in keys:
            raise ValueError(f"key {place}: its id is taken by an earlier key")
        keys[key_id] = key
    return keys
