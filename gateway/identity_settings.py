"""Settings of the gateway that say who may call it: API keys, an identity provider, trusted networks and proxies."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator, model_validator

from services.common.settings import ServiceSettings, is_loopback

TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""The names that a tenant can have."""


def is_safe_url(url: str) -> bool:
    """Whether what a URL answers can be believed: it is https, or http on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


class IdentitySettings(ServiceSettings):
    """Settings of the gateway's callers."""

    service: ClassVar[str] = "gateway"

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
    def _tokens_are_for_someone(self) -> IdentitySettings:
        if bool(self.oidc_issuer) != bool(self.oidc_audience):
            raise ValueError("expected CHROMA_OIDC_ISSUER and CHROMA_OIDC_AUDIENCE together")
        return self
