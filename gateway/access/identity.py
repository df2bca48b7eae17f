"""Who calls: the one place where credentials become a `Caller`, for gRPC, HTTP and WebSocket alike."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.access.audit import DONE, AuditLog
from gateway.access.caller import DEFAULT_TENANT, Caller, Credential, Scope, check_tenant
from gateway.access.client_secrets import PREFIX, ClientSecret, ClientSecrets
from gateway.access.keys import KeyChange, Keys
from gateway.access.oidc import ExpiredToken, IdentityProvider
from gateway.access.peer import Peer, proxy_networks
from gateway.metrics import AUTH_FAILURES
from gateway.settings import GatewaySettings
from gateway.store.redis import Store
from services.common.errors import PermissionDenied, Unauthenticated
from services.common.rpc import context

log = logging.getLogger(__name__)

_NO_SETTINGS: dict[str, Any] = {}


@dataclass(frozen=True)
class Identified:
    """A caller, and the settings that its client secret gives to a Realtime connection."""

    caller: Caller
    session: dict[str, Any]


class Identity:
    """The keys, the identity provider and the client secrets of one gateway.

    A gateway without keys and identity provider needs no credentials: it listens on loopback only, or its operator
    trusts the network. Callers on this machine then name their tenant; all others belong to the tenant `default`.
    """

    def __init__(self, settings: GatewaySettings, store: Store, audit: AuditLog) -> None:
        """`audit` gets a record of each refused credential and of each change of the keys.

        Raises BadSetting for a bad file of keys.
        """
        self._audit = audit
        self.keys = Keys(settings.tenants_by_key, settings.api_keys_file)
        self.keys.on_change.append(self._note_change)
        self.client_secrets = ClientSecrets(store)
        self.proxies = proxy_networks(settings.trusted_proxies)
        self._provider = IdentityProvider(settings) if settings.oidc_issuer else None

    @property
    def is_required(self) -> bool:
        """Whether callers need a credential."""
        return self.keys.are_configured or self._provider is not None

    @property
    def has_one_key(self) -> bool:
        """Whether all callers have the same key."""
        return self._provider is None and self.keys.count_valid() == 1

    async def identify(
        self, authorization: str, claimed_tenant: str, peer: Peer, scopes: Sequence[Scope] = ()
    ) -> Identified:
        """Return the caller with this `Authorization` header, whose log lines name its tenant and key from here on.

        `scopes`: the caller must have one of them; none: each caller may.

        Raises:
            Unauthenticated: the credential is missing, unknown, expired or broken.
            PermissionDenied: the caller has none of the scopes.
            InvalidArgument: a caller on this machine names a tenant that cannot be one.
            Unavailable: the store or the identity provider is needed and away.
        """
        context.tenant.set("")
        context.key_id.set("")
        scheme, _, credential = authorization.strip().partition(" ")
        credential = credential.strip() if scheme.lower() == "bearer" else ""
        identified = await self._identified(credential, claimed_tenant, peer)
        context.tenant.set(identified.caller.tenant)
        context.key_id.set(identified.caller.key_id)
        try:
            identified.caller.require(*scopes)
        except PermissionDenied:
            self._count("scope", identified.caller)
            raise
        return identified

    async def close(self) -> None:
        """End what runs in the background."""
        if self._provider is not None:
            await self._provider.close()

    async def _identified(self, credential: str, claimed_tenant: str, peer: Peer) -> Identified:
        if credential.startswith(PREFIX):
            return await self._with_client_secret(credential, peer)
        if not self.is_required:
            tenant = check_tenant(claimed_tenant) if peer.is_local and claimed_tenant else DEFAULT_TENANT
            return Identified(Caller(tenant, peer=peer.address), _NO_SETTINGS)
        if not credential:
            raise self._refusal("missing", "expected an API key, as `Authorization: Bearer KEY`", peer)
        key = self.keys.find(credential)
        if key is not None and key.is_expired:
            raise self._refusal("expired", f"the API key {key.key_id!r} has expired", peer)
        if key is not None:
            ends_at = key.expires.timestamp() if key.expires else math.inf
            caller = Caller(key.tenant, key.key_id, key.scopes, peer.address, Credential.KEY, ends_at)
            return Identified(caller, _NO_SETTINGS)
        if self._provider is not None and credential.count(".") == 2:
            return Identified(await self._with_token(self._provider, credential, peer), _NO_SETTINGS)
        raise self._refusal("unknown", "the API key is not known here", peer)

    async def _with_token(self, provider: IdentityProvider, token: str, peer: Peer) -> Caller:
        try:
            return await provider.caller(token, peer.address)
        except ExpiredToken as error:
            raise self._refusal("expired", error.message, peer) from None
        except Unauthenticated as error:
            raise self._refusal("invalid", error.message, peer) from None

    async def _with_client_secret(self, value: str, peer: Peer) -> Identified:
        """Return the caller with a client secret. A secret ends with the API key that asked for it."""
        secret = await self.client_secrets.find(value)
        if secret is None:
            raise self._refusal("unknown", "the client secret is not known here, or it has expired", peer)
        if not self._still_accepts(secret):
            raise self._refusal("expired", "the API key behind the client secret has ended", peer)
        return Identified(secret.caller(peer.address), secret.session)

    def _still_accepts(self, secret: ClientSecret) -> bool:
        """Whether this gateway would still let the caller talk that asked for the secret, as far as it can know."""
        match secret.credential:
            case Credential.KEY:
                return self.keys.allows(secret.key_id, secret.tenant, Scope.TALK)
            case Credential.TOKEN:
                return self._provider is not None
            case _:
                return not self.is_required

    def _refusal(self, reason: str, message: str, peer: Peer) -> Unauthenticated:
        self._count(reason, Caller("", "", frozenset(), peer.address))
        return Unauthenticated(message)

    def _count(self, reason: str, caller: Caller) -> None:
        """Tell the metrics, and unless there are too many the log and the audit log, that a caller was refused."""
        AUTH_FAILURES.labels(reason).inc()
        if self._audit.refuse(caller, reason):
            log.warning("a caller at %s was refused: %s", caller.peer or "an unknown address", reason)

    def _note_change(self, change: KeyChange) -> None:
        fields = {"added": change.added, "removed": change.removed, "changed": change.changed}
        self._audit.note("keys.change", DONE, Caller("", "", frozenset()), **fields)
