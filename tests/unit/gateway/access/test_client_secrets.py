"""Client secrets in the store."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace

import pytest

from gateway.access.caller import Caller, Credential, Scope
from gateway.access.client_secrets import ClientSecrets
from gateway.store.cipher import Cipher
from gateway.store.redis import Store
from services.common.errors import PermissionDenied
from tests.support.hurt_store import raw

CALLER = Caller("acme", "ci", frozenset(Scope), "10.0.0.1", Credential.KEY)


async def test_a_secret_is_found_by_every_gateway_and_may_only_talk(store: Store, redis_url: str) -> None:
    made = await ClientSecrets(store).create(CALLER, {"instructions": "Be brief."}, 60)
    assert made.value.startswith("ek_")
    assert 55 <= made.expires_at - time.time() <= 61
    other = Store(redis_url)
    found = await ClientSecrets(other).find(made.value)
    await other.close()
    assert found is not None
    assert found.session == {"instructions": "Be brief."}
    assert found.caller("10.0.0.9") == Caller(
        "acme", "ci", frozenset({Scope.TALK}), "10.0.0.9", Credential.CLIENT_SECRET
    )


async def test_the_store_has_the_hash_of_a_secret_and_forgets_it_in_time(store: Store) -> None:
    made = await ClientSecrets(store).create(CALLER, {}, 60)
    names = await raw(store).keys("chroma:secret:*")
    assert names == [b"chroma:secret:" + hashlib.sha256(made.value.encode()).hexdigest().encode()]
    assert 0 < await raw(store).ttl(names[0]) <= 60
    assert made.value not in repr(await raw(store).get(names[0]))


async def test_the_settings_of_a_secret_are_encrypted_where_the_store_has_keys(redis_url: str) -> None:
    store = Store(redis_url, Cipher({"k": bytes(32)}))
    made = await ClientSecrets(store).create(CALLER, {"instructions": "INSTRUCTIONS"}, 60)
    (name,) = await raw(store).keys("chroma:secret:*")
    assert "INSTRUCTIONS" not in repr(await raw(store).get(name))
    found = await ClientSecrets(store).find(made.value)
    await store.close()
    assert found is not None
    assert found.session == {"instructions": "INSTRUCTIONS"}


async def test_an_unknown_secret_is_not_found(store: Store) -> None:
    secrets = ClientSecrets(store)
    made = await secrets.create(CALLER, {}, 60)
    for value in ("ek_", made.value + "x", made.value[:-1], "ek_\u00e9", "ek_*"):
        assert await secrets.find(value) is None


@pytest.mark.parametrize(
    "caller",
    [
        Caller("acme", "ci", frozenset({Scope.TALK}), credential=Credential.CLIENT_SECRET),
        Caller("acme", "ci", frozenset({Scope.VOICES, Scope.ADMIN}), credential=Credential.KEY),
    ],
)
async def test_a_client_secret_and_a_key_that_may_not_talk_make_no_secret(store: Store, caller: Caller) -> None:
    with pytest.raises(PermissionDenied):
        await ClientSecrets(store).create(caller, {}, 60)
    assert not await raw(store).keys("chroma:secret:*")


async def test_a_secret_ends_with_the_token_of_its_maker(store: Store) -> None:
    secrets, now_s = ClientSecrets(store), time.time()
    made = await secrets.create(replace(CALLER, ends_at=now_s + 30), {}, 7_200)
    assert 25 <= made.expires_at - now_s <= 30
    (name,) = await raw(store).keys("chroma:secret:*")
    assert 0 < await raw(store).ttl(name) <= 30
    for ends_at in (now_s - 20, now_s + 0.5):  # a token is taken for some seconds after its end
        with pytest.raises(PermissionDenied, match="sign in again"):
            await secrets.create(replace(CALLER, ends_at=ends_at), {}, 60)
