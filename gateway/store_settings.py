"""Settings of the gateway's store."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from services.common.settings import ServiceSettings

_STORE_KEY_BYTES = 32
_STORE_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")


class StoreSettings(ServiceSettings):
    """Settings of the gateway's store."""

    service: ClassVar[str] = "gateway"

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

    @field_validator("store_keys")
    @classmethod
    def _can_be_read(cls, value: SecretStr) -> SecretStr:
        parse_store_keys(value.get_secret_value())
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
