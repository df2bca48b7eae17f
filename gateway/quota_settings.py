"""Settings of what callers may use: the limits of each API key, and those of all callers together."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import ServiceSettings


class QuotaSettings(ServiceSettings):
    """The limits of callers."""

    key_conversations: int | None = Field(default=None, ge=0)
    """Most conversations that one API key holds at once, at all gateways together. Unset: half of
    CHROMA_MAX_CONVERSATIONS, so that no key shuts out the others. A caller on another machine that needs no key has the
    limits of a key for its address. 0: no limit; so for each CHROMA_KEY_* and
    CHROMA_TOTAL_* limit. An entry of CHROMA_API_KEYS_FILE may have `limits` of its own."""
    key_turns_at_once: int | None = Field(default=None, ge=0)
    """Most turns of one key that hold slots of the model services at once, at all gateways together. Unset: half of the
    turns for which the services have slots, so that no key shuts out the others; no limit for a key that is the only
    one of the gateway."""
    key_turns_per_minute: int = Field(default=6_000, ge=0)
    """Most turns that one key begins in a minute."""
    key_input_audio_s_per_day: int = Field(default=5_000_000, ge=0)
    """Most seconds of user speech of one key in a day, which begins with the first of it."""
    key_output_audio_s_per_day: int = Field(default=5_000_000, ge=0)
    """Most seconds of reply speech of one key in a day."""
    key_uploads_per_day: int = Field(default=2_000, ge=0)
    """Most recordings that one key turns into voices in a day, stored or not."""
    key_sessions: int = Field(default=50_000, ge=0)
    """Most sessions that the tenant of a key keeps."""
    key_voices: int = Field(default=2_000, ge=0)
    """Most voices that the tenant of a key keeps."""
    key_client_secrets: int = Field(default=20_000, ge=0)
    """Most client secrets of the tenant of a key that can be used at once."""
    key_store_bytes: int = Field(default=512 * 1024 * 1024, ge=0)
    """Most bytes of sessions, voices and client secrets that the tenant of a key keeps, without the embeddings of its
    voices, which have a limit of their own."""

    total_conversations: int = Field(default=0, ge=0)
    """Most conversations of all callers at all gateways together."""
    total_turns_per_minute: int = Field(default=0, ge=0)
    """Most turns that all callers begin in a minute."""
    total_input_audio_s_per_day: int = Field(default=0, ge=0)
    """Most seconds of user speech of all callers in a day."""
    total_output_audio_s_per_day: int = Field(default=0, ge=0)
    """Most seconds of reply speech of all callers in a day."""
    total_uploads_per_day: int = Field(default=0, ge=0)
    """Most recordings that all callers turn into voices in a day."""
    total_sessions: int = Field(default=0, ge=0)
    """Most sessions of all tenants."""
    total_voices: int = Field(default=0, ge=0)
    """Most voices of all tenants."""
    total_client_secrets: int = Field(default=0, ge=0)
    """Most client secrets of all tenants that can be used at once."""
    total_store_bytes: int = Field(default=0, ge=0)
    """Most bytes of sessions, voices and client secrets of all tenants. The memory limit of the store bounds everything
    in it."""
