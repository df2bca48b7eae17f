"""Who calls: credentials, tenants and scopes, and what is told of callers that are refused."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.access.audit import AuditLog
from gateway.access.caller import Caller, Credential, Scope
from gateway.access.identity import Identity
from gateway.access.keys import Keys
from gateway.access.peer import Peer
from gateway.access.refusals import REFUSALS_PER_PEER
from gateway.metrics import AUTH_FAILURES
from gateway.settings import GatewaySettings
from gateway.store.redis import Store
from services.common.errors import InvalidArgument, PermissionDenied, Unauthenticated
from services.common.rpc import context
from tests.support.api_keys import key_entry, write_keys
from tests.support.identity_provider import AUDIENCE, serving_provider

LOCAL = Peer("127.0.0.1", is_local=True)
REMOTE = Peer("203.0.113.9", is_local=False)

MakeIdentity = Callable[..., Identity]


@pytest.fixture
async def identity_of(store: Store, redis_url: str, tmp_path: Path) -> AsyncIterator[MakeIdentity]:
    """Makes the identity of a gateway with these settings. Its audit log is `audit.jsonl`."""
    audit, made = AuditLog(tmp_path / "audit.jsonl"), list[Identity]()

    def identity_of(**changes: Any) -> Identity:
        settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url=redis_url, **changes)
        made.append(Identity(settings, store, audit))
        return made[-1]

    yield identity_of
    for identity in made:
        await identity.close()
    await audit.close()


async def caller(identity: Identity, credential: str = "", tenant: str = "", peer: Peer = REMOTE) -> Caller:
    """The caller with this credential."""
    authorization = f"Bearer {credential}" if credential else ""
    return (await identity.identify(authorization, tenant, peer)).caller


async def test_a_key_is_alone_when_no_other_can_be_used(identity_of: MakeIdentity, tmp_path: Path) -> None:
    ended = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    one = write_keys(tmp_path / "one.json", key_entry("sk-a", id="a"), key_entry("sk-old", id="old", expires=ended))
    two = write_keys(tmp_path / "two.json", key_entry("sk-a", id="a"), key_entry("sk-b", id="b"))
    assert identity_of(api_keys_file=one).has_one_key
    assert not identity_of(api_keys_file=two).has_one_key
    assert not identity_of().has_one_key
    provider = {"oidc_issuer": "https://id.example", "oidc_audience": "chroma"}
    assert not identity_of(api_keys_file=one, **provider).has_one_key


async def test_without_keys_a_caller_on_this_machine_names_its_tenant(identity_of: MakeIdentity) -> None:
    identity = identity_of()
    assert not identity.is_required
    assert (await caller(identity, tenant="acme", peer=LOCAL)).tenant == "acme"
    assert await caller(identity, "anything", peer=LOCAL) == Caller("default", peer="127.0.0.1")
    for name in ("a b", "a:b", "a" * 65, "\u00e9", "*"):
        with pytest.raises(InvalidArgument, match="tenant"):
            await caller(identity, tenant=name, peer=LOCAL)


@pytest.mark.parametrize("trusted_network", [False, True])
async def test_without_keys_a_caller_elsewhere_belongs_to_the_default_tenant_whatever_it_claims(
    identity_of: MakeIdentity, trusted_network: bool
) -> None:
    identity = identity_of(trusted_network=trusted_network)
    for claimed in ("acme", "a b", ""):
        assert await caller(identity, tenant=claimed) == Caller("default", peer="203.0.113.9")


@pytest.mark.parametrize("peer", [LOCAL, REMOTE])
async def test_with_keys_the_key_decides_whatever_is_claimed(identity_of: MakeIdentity, peer: Peer) -> None:
    identity = identity_of(api_keys=SecretStr('{"sk-a": "a", "sk-b": "b"}'))
    found = await caller(identity, "sk-b", "a", peer)
    assert (found.tenant, found.key_id, found.credential) == ("b", "env-b", Credential.KEY)
    with pytest.raises(Unauthenticated, match="expected an API key"):
        await caller(identity, "", "a", peer)


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("", "missing"),
        ("Bearer", "missing"),
        ("Bearer ", "missing"),
        ("Basic sk-a", "missing"),
        ("sk-a", "missing"),
        ("Bearer sk-x", "unknown"),
        ("Bearer sk-a2", "unknown"),
        ("Bearer a.b.c", "unknown"),
        ("Bearer ek_sk-a", "unknown"),
        ("Bearer \u00e9", "unknown"),
        ("Bearer \ud800", "unknown"),
    ],
)
async def test_a_refusal_is_counted_logged_and_audited_with_the_address_and_without_the_key(
    identity_of: MakeIdentity, tmp_path: Path, caplog: pytest.LogCaptureFixture, authorization: str, reason: str
) -> None:
    caplog.set_level(logging.INFO)
    identity = identity_of(api_keys=SecretStr('{"sk-a": "a"}'))
    caplog.clear()
    counted = AUTH_FAILURES.labels(reason)
    before = counted._value.get()
    with pytest.raises(Unauthenticated):
        await identity.identify(authorization, "acme", REMOTE)
    assert counted._value.get() == before + 1
    assert caplog.messages == [f"a caller at 203.0.113.9 was refused: {reason}"]
    await identity._audit.close()
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    fields = {"action": "caller.refuse", "outcome": "refused", "peer": "203.0.113.9", "reason": reason, "tenant": ""}
    assert json.loads(line).items() >= fields.items()
    assert (context.tenant.get(), context.key_id.get()) == ("", "")


async def test_refused_callers_cannot_fill_a_disk_and_are_counted_all_the_same(
    identity_of: MakeIdentity, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identity = identity_of(api_keys=SecretStr('{"sk-a": "a"}'))
    caplog.clear()
    counted = AUTH_FAILURES.labels("unknown")
    before = counted._value.get()
    for _ in range(300):
        with pytest.raises(Unauthenticated):
            await identity.identify("Bearer sk-x", "", REMOTE)
    assert counted._value.get() == before + 300
    assert len(caplog.messages) == REFUSALS_PER_PEER
    await identity._audit.close()
    *lines, last = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert len(lines) == REFUSALS_PER_PEER
    assert last["peer"] == "203.0.113.9"
    assert (last["action"], last["reason"], last["refusals"]) == ("caller.refuse", "many", 300 - REFUSALS_PER_PEER)


async def test_an_expired_key_is_refused_as_expired(identity_of: MakeIdentity, tmp_path: Path) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    file = write_keys(tmp_path / "keys.json", key_entry("sk-old", id="old", expires=past))
    counted = AUTH_FAILURES.labels("expired")
    before = counted._value.get()
    with pytest.raises(Unauthenticated, match="the API key 'old' has expired"):
        await caller(identity_of(api_keys_file=file), "sk-old")
    assert counted._value.get() == before + 1


async def test_a_file_without_keys_lets_nobody_in(identity_of: MakeIdentity, tmp_path: Path) -> None:
    identity = identity_of(api_keys_file=write_keys(tmp_path / "keys.json"))
    for peer in (LOCAL, REMOTE):
        with pytest.raises(Unauthenticated):
            await caller(identity, tenant="acme", peer=peer)


async def test_one_of_the_scopes_is_needed(identity_of: MakeIdentity, tmp_path: Path) -> None:
    identity = identity_of(api_keys_file=write_keys(tmp_path / "keys.json", key_entry("sk-talk", id="talker")))
    counted = AUTH_FAILURES.labels("scope")
    before = counted._value.get()
    for scopes in ((), (Scope.TALK,), (Scope.VOICES, Scope.TALK)):
        assert (await identity.identify("Bearer sk-talk", "", REMOTE, scopes)).caller.key_id == "talker"
    with pytest.raises(PermissionDenied, match="the key 'talker' lacks the scope 'voices' or 'admin'"):
        await identity.identify("Bearer sk-talk", "", REMOTE, (Scope.VOICES, Scope.ADMIN))
    assert counted._value.get() == before + 1


async def test_log_lines_name_the_proven_tenant_and_key(identity_of: MakeIdentity) -> None:
    context.tenant.set("claimed")
    await caller(identity_of(api_keys=SecretStr('{"sk-a": "a"}')), "sk-a", "claimed")
    assert (context.tenant.get(), context.key_id.get()) == ("a", "env-a")


async def test_tokens_and_keys_work_side_by_side(identity_of: MakeIdentity) -> None:
    with serving_provider() as provider:
        settings = {"oidc_issuer": provider.url, "oidc_audience": AUDIENCE, "api_keys": SecretStr('{"sk-a": "a"}')}
        identity = identity_of(**settings)
        assert (await caller(identity, "sk-a")).credential is Credential.KEY
        assert (await caller(identity, provider.token(tenant="b"))).tenant == "b"
        for token, reason in ((provider.token(aud="x"), "invalid"), (provider.token(exp=1), "expired")):
            counted = AUTH_FAILURES.labels(reason)
            before = counted._value.get()
            with pytest.raises(Unauthenticated):
                await caller(identity, token)
            assert counted._value.get() == before + 1
        with pytest.raises(Unauthenticated, match="not known here"):
            await caller(identity, "no-token")


async def test_a_provider_alone_makes_a_token_necessary(identity_of: MakeIdentity) -> None:
    identity = identity_of(oidc_issuer="https://login.example.com", oidc_audience=AUDIENCE)
    assert identity.is_required
    with pytest.raises(Unauthenticated):
        await caller(identity, tenant="acme", peer=LOCAL)


async def test_a_client_secret_ends_with_the_key_that_asked_for_it(identity_of: MakeIdentity, tmp_path: Path) -> None:
    file = write_keys(tmp_path / "keys.json", key_entry("sk-1", id="one"), key_entry("sk-2", id="two"))
    identity = identity_of(api_keys_file=file)
    made = await identity.client_secrets.create(await caller(identity, "sk-1"), {"model": "m"}, 60)
    found = await identity.identify(f"Bearer {made.value}", "", REMOTE)
    assert (found.caller.key_id, found.caller.credential, found.session) == (
        "one",
        Credential.CLIENT_SECRET,
        {"model": "m"},
    )
    for entries in (
        [key_entry("sk-2", id="two")],
        [key_entry("sk-1", id="one", tenant="other")],
        [key_entry("sk-1", id="one", scopes=["voices"])],
        [key_entry("sk-1", id="one", expires="2020-01-01T00:00:00Z")],
    ):
        changed = identity_of(api_keys_file=write_keys(file, *entries))
        with pytest.raises(Unauthenticated, match="the API key behind the client secret has ended"):
            await caller(changed, made.value)


async def test_a_client_secret_that_needed_no_key_is_worth_nothing_where_keys_are_needed(
    identity_of: MakeIdentity,
) -> None:
    identity = identity_of()
    made = await identity.client_secrets.create(await caller(identity, tenant="acme", peer=LOCAL), {}, 60)
    assert (await caller(identity, made.value)).tenant == "acme"
    with pytest.raises(Unauthenticated):
        await caller(identity_of(api_keys=SecretStr('{"sk-a": "a"}')), made.value)
    with pytest.raises(Unauthenticated, match="not known here, or it has expired"):
        await caller(identity, made.value + "x")


async def test_a_change_of_the_keys_is_audited(identity_of: MakeIdentity, tmp_path: Path) -> None:
    identity = identity_of(api_keys_file=write_keys(tmp_path / "keys.json", key_entry("sk-1", id="one")))
    other = Keys({}, write_keys(tmp_path / "other.json", key_entry("sk-2", id="two")))
    identity.keys._use(other._current)
    await identity._audit.close()
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    fields = {"action": "keys.change", "outcome": "done", "added": ["two"], "removed": ["one"], "changed": []}
    assert json.loads(line).items() >= fields.items()
