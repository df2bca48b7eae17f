"""Client secrets: credentials that live for minutes, which a server with a key hands to its browser.

chroma:secret:SHA256   JSON of the secret's tenant, key and session settings, with a TTL

The store has the hash of each secret, so every gateway knows it. The value is encrypted when the store has keys
(`gateway.store.cipher`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from gateway.access.caller import Caller, Credential, Scope
from gateway.store.redis import Store
from services.common.errors import PermissionDenied

PREFIX = "ek_"
MIN_TTL_S = 10
MAX_TTL_S = 7_200
DEFAULT_TTL_S = 600

# KEYS: secret. ARGV: its JSON, its TTL in seconds.
_KEEP = "return redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])"


@dataclass(frozen=True)
class NewSecret:
    """A secret that was just made. `value` exists nowhere else."""

    value: str
    expires_at: int
    """Seconds since the epoch."""


@dataclass(frozen=True)
class ClientSecret:
    """What the store knows of a secret."""

    tenant: str
    key_id: str
    """Of the key or token that asked for the secret."""
    credential: Credential
    """What that caller had."""
    session: dict[str, Any]
    """The settings of a Realtime connection that is opened with the secret, as the caller gave them."""

    def caller(self, peer: str) -> Caller:
        """Return the caller with this secret: it may talk, nothing else."""
        return Caller(self.tenant, self.key_id, frozenset({Scope.TALK}), peer, Credential.CLIENT_SECRET)


class ClientSecrets:
    """The client secrets of all tenants."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, caller: Caller, session: dict[str, Any], ttl_s: int) -> NewSecret:
        """Make a secret for this caller's tenant. It can be used for `ttl_s` seconds, as often as its holder likes, but
        not longer than the caller's own key or token.

        Raises PermissionDenied for a caller that may not talk, has a client secret itself, or whose token ends,
        Unavailable.
        """
        caller.require(Scope.TALK)
        if caller.credential is Credential.CLIENT_SECRET:
            raise PermissionDenied("a client secret cannot make another one: use an API key")
        now_s = time.time()
        ttl_s = int(min(ttl_s, caller.ends_at - now_s))
        if ttl_s < 1:
            raise PermissionDenied("the token ends within a second: sign in again")
        value = PREFIX + secrets.token_urlsafe(32)
        fields = {
            "tenant": caller.tenant,
            "key_id": caller.key_id,
            "credential": caller.credential,
            "session": session,
        }
        expires_at = int(now_s) + ttl_s
        name = _name(value)
        await self._store.write(_KEEP, [name], [self._store.cipher.seal(name, json.dumps(fields).encode()), ttl_s])
        return NewSecret(value, expires_at)

    async def find(self, value: str) -> ClientSecret | None:
        """Return what the store knows of a secret; None for one that never existed or whose time is over.

        Raises Unavailable.
        """
        name = _name(value)
        data = await self._store.ask("GET", name)
        if data is None:
            return None
        fields = json.loads(self._store.cipher.unseal(name, data))
        return ClientSecret(fields["tenant"], fields["key_id"], Credential(fields["credential"]), fields["session"])


def _name(value: str) -> str:
    return "chroma:secret:" + hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()
