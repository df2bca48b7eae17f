"""The caller of a request: the tenant and the key that its credentials proved, and what it may do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.identity_settings import TENANT
from services.common.errors import InvalidArgument, PermissionDenied
from services.common.settings import is_loopback

DEFAULT_TENANT = "default"
"""The tenant of callers that need no key and name no tenant."""

ANONYMOUS = "anonymous"
"""The key id of callers that need no key. No key has this id."""


class Scope(StrEnum):
    """What a key allows."""

    TALK = "talk"
    """Hold conversations, and read, change and delete the sessions of its tenant."""
    VOICES = "voices"
    """Enrol and delete voices of its tenant."""
    ADMIN = "admin"
    """Erase all data of its tenant, and read the limits and the audit records of its tenant."""


class Credential(StrEnum):
    """How a caller proved who it is."""

    NONE = "none"
    """It did not: the gateway has no keys."""
    KEY = "key"
    """By an API key."""
    TOKEN = "token"
    """By a token of the identity provider."""
    CLIENT_SECRET = "client_secret"
    """By a client secret that a caller with a key or a token asked for."""


@dataclass(frozen=True)
class Caller:
    """Who calls. `tenant` owns the sessions and voices; `key_id` names the key, never the key itself; `peer` is the
    address without its port, empty when it is not known.

    `key_id` is the id of an API key, the `sub` of a token, or that of the key or token behind a client secret.
    """

    tenant: str
    key_id: str = ANONYMOUS
    scopes: frozenset[Scope] = frozenset(Scope)
    peer: str = ""
    credential: Credential = Credential.NONE
    ends_at: float = field(default=math.inf, compare=False)
    """When the key or the token ends, in seconds since the epoch."""

    @property
    def share(self) -> str:
        """Whose use counts together with the caller's within its tenant: that of its key; without a key that of its
        address, or of all callers on this machine."""
        is_apart = self.key_id == ANONYMOUS and self.peer not in ("", "unix") and not is_loopback(self.peer)
        return f"{ANONYMOUS}@{self.peer}" if is_apart else self.key_id

    def require(self, *scopes: Scope) -> None:
        """Raise PermissionDenied unless the caller has at least one of these scopes. Without scopes, any caller may."""
        if scopes and not self.scopes.intersection(scopes):
            wanted = " or ".join(repr(scope.value) for scope in scopes)
            is_secret = self.credential is Credential.CLIENT_SECRET  # its holder need not know the key behind it
            what = "a client secret has not" if is_secret else f"the key {self.key_id!r} lacks"
            raise PermissionDenied(f"{what} the scope {wanted}")


def check_tenant(name: str) -> str:
    """Return `name` if it can be the name of a tenant. Raises InvalidArgument otherwise."""
    if not TENANT.fullmatch(name):
        raise InvalidArgument(f"expected a tenant of 1 to 64 letters, digits, '.', '_' and '-', got {name[:80]!r}")
    return name
