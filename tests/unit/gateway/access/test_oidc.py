"""Tokens of an identity provider: real keys, and a provider that serves them over HTTP on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.warnings import InsecureKeyLengthWarning

from gateway.access import oidc
from gateway.access.caller import Credential, Scope
from gateway.access.oidc import ExpiredToken, IdentityProvider
from gateway.settings import GatewaySettings
from services.common.errors import Unauthenticated, Unavailable
from tests.support.identity_provider import AUDIENCE, Provider, private_key, public_jwk, serving_provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving_provider() as provider:
        yield provider


@asynccontextmanager
async def verifying(provider: Provider, **changes: Any) -> AsyncIterator[IdentityProvider]:
    """The gateway's side of the provider."""
    fields: dict[str, Any] = {
        "reasoner": "a:1",
        "speech_gen": "b:1",
        "codec": "c:1",
        "redis_url": "redis://d:1",
        "oidc_issuer": provider.url,
        "oidc_audience": AUDIENCE,
    }
    verifier = IdentityProvider(GatewaySettings(**{**fields, **changes}))
    try:
        yield verifier
    finally:
        await verifier.close()


async def refusal(provider: Provider, token: str) -> Unauthenticated:
    """The error with which a token is refused."""
    async with verifying(provider) as verifier:
        with pytest.raises(Unauthenticated) as refused:
            await verifier.caller(token, "10.0.0.1")
    return refused.value


async def test_a_token_names_the_tenant_the_scopes_and_the_subject(provider: Provider) -> None:
    async with verifying(provider) as verifier:
        caller = await verifier.caller(provider.token(), "10.0.0.1")
    assert (caller.tenant, caller.key_id, caller.scopes, caller.peer) == ("acme", "user-1", {Scope.TALK}, "10.0.0.1")
    assert caller.credential is Credential.TOKEN
    assert provider.requests == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("RSA", "RS256"), ("RSA", "RS512"), ("RSA", "PS256"), ("EC", "ES256"), ("OKP", "EdDSA")],
)
async def test_each_algorithm_with_public_keys_is_accepted(provider: Provider, kind: str, algorithm: str) -> None:
    key = private_key(kind)
    provider.keys = [public_jwk(key, kid="k")]
    async with verifying(provider) as verifier:
        assert (await verifier.caller(provider.token(key, algorithm, {"kid": "k"}), "")).tenant == "acme"


async def test_the_names_of_the_claims_and_the_url_of_the_keys_can_be_set(provider: Provider) -> None:
    token = provider.token(tenant=None, org="other", scope=None, roles=["voices", "admin", "unknown", 7])
    changes = {
        "oidc_tenant_claim": "org",
        "oidc_scope_claim": "roles",
        "oidc_jwks_url": f"{provider.url}/keys",
    }
    async with verifying(provider, **changes) as verifier:
        caller = await verifier.caller(token, "")
    assert (caller.tenant, caller.scopes) == ("other", {Scope.VOICES, Scope.ADMIN})
    assert provider.requests == ["/keys"]


async def test_a_token_without_known_scopes_allows_nothing(provider: Provider) -> None:
    async with verifying(provider) as verifier:
        for scope in (None, "", "openid", ["x"], 5, {"talk": True}):
            assert (await verifier.caller(provider.token(scope=scope), "")).scopes == frozenset()


async def test_an_expired_token_says_so_and_clocks_may_differ_a_little(provider: Provider) -> None:
    now_s = int(time.time())
    assert isinstance(await refusal(provider, provider.token(exp=now_s - 60)), ExpiredToken)
    async with verifying(provider) as verifier:
        caller = await verifier.caller(provider.token(exp=now_s - 10, nbf=now_s + 10), "")
        assert (caller.tenant, caller.ends_at) == ("acme", now_s - 10)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://login.example.com"},
        {"iss": None},
        {"exp": None},
        {"exp": "never"},
        {"exp": 1e300},
        {"nbf": 32_503_680_000},
        {"sub": None},
        {"sub": ""},
        {"sub": "anonymous"},
        {"sub": 7},
        {"tenant": None},
        {"tenant": ""},
        {"tenant": "a:b"},
        {"tenant": ["acme"]},
    ],
)
async def test_a_token_with_a_missing_or_wrong_claim_is_refused(provider: Provider, claims: dict[str, Any]) -> None:
    if claims == {"exp": 1e300}:
        async with verifying(provider) as verifier:  # an end far away is no error
            assert (await verifier.caller(provider.token(**claims), "")).tenant == "acme"
        return
    await refusal(provider, provider.token(**claims))


async def test_a_subject_is_cut_to_an_id_that_is_safe_in_logs(provider: Provider) -> None:
    async with verifying(provider) as verifier:
        caller = await verifier.caller(provider.token(sub="auth0|a b\n\u00e9" + "x" * 200), "")
    assert caller.key_id == ("auth0|a_b__" + "x" * 200)[:64]


def _segment(fields: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()


async def test_a_token_without_signature_or_with_the_public_key_as_secret_is_refused(provider: Provider) -> None:
    _, payload, signature = provider.token().split(".")
    for algorithm in ("none", "None", "NONE", ""):
        await refusal(provider, f"{_segment({'alg': algorithm, 'kid': 'rsa-1'})}.{payload}.")
    pem = private_key("RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, json.dumps(provider.keys[0]).encode()):
        signed = f"{_segment({'alg': 'HS256', 'kid': 'rsa-1'})}.{payload}"
        mac = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
        assert "expected a token signed with one of RS256" in (await refusal(provider, f"{signed}.{mac}")).message
    for header in (
        {"alg": "RS256", "kid": 7},
        {"alg": ["RS256"], "kid": "rsa-1"},
        {"alg": "ES256", "kid": "rsa-1"},
        {},
    ):
        await refusal(provider, f"{_segment(header)}.{payload}.{signature}")


@pytest.mark.parametrize("token", ["", ".", "..", "...", "a.b.c", "e30.e30.e30", "\u00e9.\u00e9.\u00e9", "x" * 20_000])
async def test_what_is_no_token_is_refused(provider: Provider, token: str) -> None:
    await refusal(provider, token)


async def test_a_token_of_another_key_or_a_changed_one_is_refused(provider: Provider) -> None:
    await refusal(provider, provider.token(private_key("RSA", 1)))
    header, _, signature = provider.token().split(".")
    _, other, _ = provider.token(tenant="victim").split(".")
    await refusal(provider, f"{header}.{other}.{signature}")


async def test_keys_for_encryption_secrets_and_short_keys_are_not_used(provider: Provider) -> None:
    small = private_key("small RSA")
    provider.keys = [
        public_jwk(private_key("RSA"), kid="for-encryption", use="enc"),
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        public_jwk(small, kid="small"),
        public_jwk(private_key("RSA"), kid="other-algorithm", alg="RS512"),
    ]
    with pytest.warns(InsecureKeyLengthWarning):
        token = provider.token(small, headers={"kid": "small"})
    await refusal(provider, token)
    for key, kid in (
        (private_key("RSA"), "for-encryption"),
        (private_key("RSA"), "other-algorithm"),
        (private_key("RSA"), "secret"),
    ):
        await refusal(provider, provider.token(key, headers={"kid": kid}))


async def test_a_token_without_a_key_id_is_checked_with_the_single_key_of_its_type(provider: Provider) -> None:
    token = provider.token(headers={})
    provider.keys = [public_jwk(private_key("RSA")), public_jwk(private_key("EC"), kid="ec")]
    async with verifying(provider) as verifier:
        assert (await verifier.caller(token, "")).tenant == "acme"
    provider.keys = [public_jwk(private_key("RSA")), public_jwk(private_key("RSA", 1), kid="second")]
    await refusal(provider, token)


async def test_a_new_key_is_fetched_when_a_token_names_it_but_not_more_often_than_allowed(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = private_key("RSA", 1)
    async with verifying(provider) as verifier:
        await verifier.caller(provider.token(), "")
        provider.keys.append(public_jwk(new, kid="rsa-2"))
        for number in range(20):
            with pytest.raises(Unauthenticated, match="does not have"):
                await verifier.caller(provider.token(new, headers={"kid": f"made-up-{number}"}), "")
        assert len(provider.requests) == 2
        monkeypatch.setattr(oidc, "_MIN_WAIT_S", 0.0)
        assert (await verifier.caller(provider.token(new, headers={"kid": "rsa-2"}), "")).tenant == "acme"
        assert len(provider.requests) == 4


async def test_many_tokens_at_once_cause_one_fetch(provider: Provider) -> None:
    async with verifying(provider) as verifier:
        callers = await asyncio.gather(*(verifier.caller(provider.token(), "") for _ in range(20)))
    assert {caller.tenant for caller in callers} == {"acme"}
    assert len(provider.requests) == 2


async def test_old_keys_serve_while_the_provider_is_away(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "_MIN_WAIT_S", 0.0)
    async with verifying(provider) as verifier:
        await verifier.caller(provider.token(), "")
        provider.status = 503
        monkeypatch.setattr(oidc, "_MAX_AGE_S", 0.0)
        for _ in range(3):
            assert (await verifier.caller(provider.token(), "")).tenant == "acme"
            assert verifier._fetching is not None
            await asyncio.wait([verifier._fetching])
        assert len(provider.requests) == 5


async def test_a_key_that_the_provider_withdrew_is_refused_after_the_next_fetch(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_MIN_WAIT_S", 0.0)
    monkeypatch.setattr(oidc, "_MAX_AGE_S", 0.0)
    async with verifying(provider) as verifier:
        await verifier.caller(provider.token(), "")
        provider.keys = []
        await verifier.caller(provider.token(), "")
        assert verifier._fetching is not None
        await asyncio.wait([verifier._fetching])
        with pytest.raises(Unauthenticated):
            await verifier.caller(provider.token(), "")


@pytest.mark.parametrize("problem", ["status", "redirect", "issuer", "jwks_uri", "not an object"])
async def test_without_keys_from_the_provider_tokens_cannot_be_checked_now(provider: Provider, problem: str) -> None:
    match problem:
        case "status":
            provider.status = 500
        case "redirect":
            provider.status = 302
        case "issuer":
            provider.discovery = {"issuer": "https://login.example.com"}
        case "jwks_uri":
            provider.discovery = {"jwks_uri": "http://login.example.com/keys"}
        case _:
            provider.discovery = {"jwks_uri": 7}
    async with verifying(provider) as verifier:
        for _ in range(2):
            with pytest.raises(Unavailable, match="the identity provider does not answer"):
                await verifier.caller(provider.token(), "")
    assert "/elsewhere" not in provider.requests


async def test_a_provider_that_does_not_answer_does_not_stop_the_loop(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    documents = provider.answer

    def slow(path: str) -> dict[str, Any] | None:
        loop.call_soon_threadsafe(asked.set)
        asyncio.run_coroutine_threadsafe(answer.wait(), loop).result(60)
        return documents(path)

    monkeypatch.setattr(provider, "answer", slow)
    async with asyncio.timeout(60), verifying(provider) as verifier:
        waiting = asyncio.create_task(verifier.caller(provider.token(), ""))
        await asked.wait()  # the loop runs on while the provider is silent
        assert not waiting.done()
        answer.set()
        assert (await waiting).tenant == "acme"
