"""The list of what replicas still have to forget, in a real store."""

from __future__ import annotations

from dataclasses import replace

from gateway.store.cipher import Cipher
from gateway.store.pending_erasures import PendingErasures
from gateway.store.redis import Store
from tests.support.hurt_store import raw


async def test_an_erasure_is_listed_until_no_replica_is_left(store: Store) -> None:
    erasures = PendingErasures(store)
    pending = await erasures.add("voice", ["one", "two"], ["a:1", "b:1"])
    assert await erasures.all() == [pending]
    left = replace(pending, replicas=("b:1",))
    await erasures.update(left)
    assert await erasures.all() == [left]
    await erasures.update(replace(pending, replicas=()))
    assert await erasures.all() == []


async def test_many_erasures_are_all_listed(store: Store) -> None:
    erasures = PendingErasures(store)
    added = [await erasures.add("session", [f"session-{number}"], ["a:1"]) for number in range(700)]
    assert sorted(await erasures.all(), key=lambda it: it.erasure_id) == sorted(added, key=lambda it: it.erasure_id)


async def test_an_erasure_that_another_gateway_has_finished_stays_finished(store: Store) -> None:
    erasures = PendingErasures(store)
    pending = await erasures.add("session", ["one"], ["a:1", "b:1"])
    await erasures.update(replace(pending, replicas=()))
    await erasures.update(replace(pending, replicas=("b:1",)))
    assert await erasures.all() == []


async def test_with_keys_the_names_are_encrypted(store: Store, redis_url: str) -> None:
    locked = Store(redis_url, Cipher({"k1": bytes(32)}))
    pending = await PendingErasures(locked).add("session", ["secret-session"], ["a:1"])
    assert b"secret-session" not in b"".join(await raw(store).hvals("chroma:erasures"))  # pyright: ignore[reportArgumentType]
    assert await PendingErasures(locked).all() == [pending]
    plain = await PendingErasures(store).add("session", ["another"], ["a:1"])
    assert await PendingErasures(store).all() == [plain]  # without the key
    await locked.close()
