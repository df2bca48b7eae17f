"""The keys of a tenant in a real store: which are found, and which are deleted."""

from __future__ import annotations

import json
from typing import Any

from gateway.store.cipher import Cipher
from gateway.store.redis import Store
from gateway.store.tenant_keys import TenantKeys
from tests.support.hurt_store import raw

OWN = (
    "chroma:session:{a.b:0f}:one",
    "chroma:audio:{a.b:0f}:one:turn-1",
    "chroma:voices:{a.b}",
    "chroma:voice_embeddings:{a.b}",
    "chroma:reply:a.b:audio_1",
    "chroma:session:a.b:old",
    "chroma:held:{a.b}",
)
KEPT = (
    "chroma:consent:{a.b}:consent-1",
    "chroma:consents:{a.b}",
    "chroma:revoked_recordings:{a.b}",
    "chroma:session_deleted:{a.b:0f}",
)
OTHERS = (
    "chroma:session:{axb:0f}:one",
    "chroma:session:{a.b.c:0f}:one",
    "chroma:session:axb:one",
    "chroma:reply:other:a.b:c",
    "chroma:voice:{other}:a.b",
    "chroma:voices_indexed",
    "chroma:erasures",
)


async def test_a_tenants_keys_are_deleted_and_no_others(store: Store) -> None:
    for key in (*OWN, *KEPT, *OTHERS):
        await raw(store).set(key, "value")
    keys = TenantKeys(store, "a.b")
    assert sorted([session async for session in keys.sessions()]) == ["old", "one"]
    assert await keys.delete() == len(OWN)
    stored: list[Any] = await raw(store).keys("*")
    left = {key.decode() for key in stored}
    assert left == {*KEPT, *OTHERS}
    assert await keys.delete() == 0


async def test_a_tenants_client_secrets_are_found_by_their_content(redis_url: str) -> None:
    store = Store(redis_url, Cipher({"k1": bytes(32)}))
    for name, tenant in (("one", "a"), ("two", "b")):
        key = f"chroma:secret:{name}"
        await raw(store).set(key, store.cipher.seal(key, json.dumps({"tenant": tenant}).encode()))
    await raw(store).set("chroma:secret:plain", json.dumps({"tenant": "a"}))
    assert await TenantKeys(store, "a").delete() == 2
    assert await raw(store).keys("*") == [b"chroma:secret:two"]
    await store.close()
