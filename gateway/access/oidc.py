"""Tokens of an identity provider (OpenID Connect, JWT): their check, and the provider's public keys behind it.

The keys are fetched in a thread and kept. They are fetched again when they are old, and when a token names a key that
is not among them. While the provider is away, the keys that were fetched before stay in use.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.request import HTTPRedirectHandler, build_opener

import jwt

from gateway.access.caller import ANONYMOUS, Caller, Credential, Scope
from gateway.identity_settings import TENANT, IdentitySettings, is_safe_url
from gateway.metrics import PROVIDER_FETCHES
from gateway.tasks import cancel
from services.common.errors import Unauthenticated, Unavailable

log = logging.getLogger(__name__)

_KEY_TYPES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
"""The algorithms that are accepted, and the type of key that each needs. All use public keys: with HS256 the provider's
public key would be the secret, and `none` proves nothing."""

_LEEWAY_S = 30.0
"""How far the provider's clock and ours may differ."""
_MAX_AGE_S = 600.0
"""Age at which keys are fetched again, while they stay in use."""
_MIN_WAIT_S = 10.0
"""Least time between two fetches: strangers can send tokens with made-up key ids."""
_TIMEOUT_S = 5.0
_MAX_BYTES = 1024 * 1024
_MAX_TOKEN_CHARS = 16 * 1024
_MAX_ID_CHARS = 64

_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_.@:|+-]")


class ExpiredToken(Unauthenticated):
    """The token was valid, and its time is over."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        return None


@dataclass(frozen=True)
class _KeySet:
    """The provider's keys as they were fetched."""

    by_id: Mapping[str, Mapping[str, Any]]
    unnamed: tuple[Mapping[str, Any], ...] = ()
    """The keys without an id."""
    fetched_s: float = -float("inf")
    """On the monotonic clock."""
    cache: dict[tuple[str, str], jwt.PyJWK] = field(default_factory=dict)
    """Keys in use, by id and algorithm."""

    def find(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """Return a key for this algorithm. Without an id, only the provider's single key of the right type will do."""
        if (known := self.cache.get((key_id, algorithm))) is not None:
            return known
        named = self.by_id.get(key_id) if key_id else None
        candidates = [named] if named else [] if key_id else [*self.by_id.values(), *self.unnamed]
        fitting = [key for key in candidates if _fits(key, algorithm)]
        if len(fitting) != 1:
            return None
        try:
            key = jwt.PyJWK(dict(fitting[0]), algorithm)
        except jwt.PyJWTError:
            return None
        self.cache[key_id, algorithm] = key
        return key


class IdentityProvider:
    """One issuer, as the settings name it."""

    def __init__(self, settings: IdentitySettings) -> None:
        self._issuer = settings.oidc_issuer
        self._audience = settings.oidc_audience
        self._tenant_claim = settings.oidc_tenant_claim
        self._scope_claim = settings.oidc_scope_claim
        self._jwks_url = settings.oidc_jwks_url
        self._keys = _KeySet({})
        self._tried_s = -float("inf")
        self._fetching: asyncio.Task[None] | None = None

    async def caller(self, token: str, peer: str) -> Caller:
        """Return the caller that a token names.

        Raises:
            ExpiredToken: its time is over.
            Unauthenticated: it is no token of this issuer for this audience, or it names no tenant.
            Unavailable: the provider's keys were never fetched, and the provider does not answer.
        """
        claims = await self._claims(token)
        tenant = claims.get(self._tenant_claim)
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            raise Unauthenticated(f"the token has no tenant in its claim {self._tenant_claim!r}")
        key_id = _NOT_IN_ID.sub("_", claims["sub"])[:_MAX_ID_CHARS]
        if key_id in ("", ANONYMOUS):
            raise Unauthenticated("the token names nobody in its claim 'sub'")
        scopes = _scopes(claims.get(self._scope_claim))
        return Caller(tenant, key_id, scopes, peer, Credential.TOKEN, float(claims["exp"]))

    async def close(self) -> None:
        """End a fetch that runs."""
        if self._fetching is not None:
            await cancel(self._fetching)

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > _MAX_TOKEN_CHARS:
            raise Unauthenticated("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid", "")
            if not isinstance(algorithm, str) or algorithm not in _KEY_TYPES:
                raise Unauthenticated(f"expected a token signed with one of {', '.join(_KEY_TYPES)}")
            key = await self._key(key_id, algorithm)
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.ExpiredSignatureError:
            raise ExpiredToken("the token has expired") from None
        except (jwt.PyJWTError, ValueError, OverflowError) as error:
            log.debug("a token was refused: %s", type(error).__name__)
            raise Unauthenticated("the token is not valid here") from None

    async def _key(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        """Return the provider's key, from a new fetch if it is not among the known ones."""
        now_s = time.monotonic()
        key = self._keys.find(key_id, algorithm)
        if key is not None:
            if now_s - self._keys.fetched_s > _MAX_AGE_S:
                self._start_fetch()  # the known keys serve until it ends
            return key
        fetching = self._start_fetch()
        if fetching is not None:
            await asyncio.wait([fetching])
            key = self._keys.find(key_id, algorithm)
        if key is not None:
            return key
        if self._keys.fetched_s < 0:
            raise Unavailable("the identity provider does not answer: try again")
        raise Unauthenticated("the token is signed with a key that the identity provider does not have")

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """Return the fetch that runs, a new one if the last is long enough ago, or None."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now_s = time.monotonic()
        if now_s - self._tried_s < _MIN_WAIT_S:
            return None
        self._tried_s = now_s
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            keys = await asyncio.to_thread(self._load)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            PROVIDER_FETCHES.labels("failed").inc()
            log.warning("the keys of the identity provider could not be fetched: %s: %s", type(error).__name__, error)
        else:
            PROVIDER_FETCHES.labels("loaded").inc()
            self._keys = keys

    def _load(self) -> _KeySet:
        """Fetch the keys. Raises OSError, HTTPException or ValueError. Blocks."""
        url = self._jwks_url
        if not url:
            found = _get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self._issuer:
                raise ValueError("the discovery document is another issuer's")
            url = found.get("jwks_uri")
            if not isinstance(url, str) or not is_safe_url(url):
                raise ValueError("the discovery document names no https URL of keys")
        keys = [key for key in _get(url).get("keys") or () if isinstance(key, dict) and key.get("use", "sig") == "sig"]
        by_id = {key["kid"]: key for key in keys if isinstance(key.get("kid"), str)}
        return _KeySet(by_id, tuple(key for key in keys if "kid" not in key), time.monotonic())


def _get(url: str) -> dict[str, Any]:
    """Return the JSON object at a URL. It follows no redirects: they could lead away from https."""
    with build_opener(_NoRedirects).open(url, timeout=_TIMEOUT_S) as answer:
        data = answer.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES} bytes")
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return found


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    return key.get("kty") == _KEY_TYPES[algorithm] and key.get("alg", algorithm) == algorithm


def _scopes(claim: object) -> frozenset[Scope]:
    """Return the scopes of a claim: names separated by spaces, or a list of names. Unknown names are ignored."""
    names = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    scopes: set[Scope] = set()
    for name in names:
        with suppress(ValueError):
            scopes.add(Scope(name))
    return frozenset(scopes)
