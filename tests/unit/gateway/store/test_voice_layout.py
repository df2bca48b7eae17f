"""The scripts that change a voice, in a real store: each has the same effect when it runs twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.store import voice_layout as layout
from gateway.store.consents import consent_key, consents_key, revoked_recordings_key
from gateway.store.embeddings import embedding_keys
from gateway.store.redis import Store, Value
from tests.support.hurt_store import raw

VOICE, INDEX = layout.voice_key("acme", "ada"), layout.index_key("acme")
CONSENT, CONSENTS, REVOKED = consent_key("acme", "c1"), consents_key("acme"), revoked_recordings_key("acme")


async def create(store: Store, request: str, *, voice: str = "ada", digest: str = "", most: int = 9) -> Any:
    """What CREATE answers, twice the same."""
    keys = [layout.voice_key("acme", voice), INDEX, CONSENT, CONSENTS, REVOKED, layout.request_key("acme", "k")]
    values: list[Value] = [voice, "c1", "record", 5.5, most, "mark", digest, 100, "request", request, "codes", b"12"]
    first, second = [await store.write(layout.CREATE, keys, values) for _ in range(2)]
    assert first == second
    return first


async def delete(store: Store, request: str, consent_id: str) -> list[int]:
    """What DELETE answers when it runs twice."""
    keys: Sequence[str] = [VOICE, INDEX, *embedding_keys("acme"), CONSENT]
    return [await store.write(layout.DELETE, keys, ["ada", request, consent_id, 7.5]) for _ in range(2)]


def test_the_keys_of_a_tenants_voices_lie_on_one_node_and_those_of_earlier_versions_are_known() -> None:
    for key in (VOICE, INDEX, layout.request_key("acme", "secret words")):
        assert "{acme}" in key
    assert "secret" not in layout.request_key("acme", "secret words")
    assert layout.named_by_old_key(layout.old_key("acme", "ada")) == ("acme", "ada")
    assert layout.named_by_old_key(VOICE) is None


async def test_a_voice_is_listed_and_its_consent_names_it(store: Store) -> None:
    assert await create(store, "r1") == [1, b"ada"]
    assert await raw(store).zrange(INDEX, 0, -1) == [b"ada"]
    assert await raw(store).hget(CONSENT, "voice:ada") == b"5.5 0"
    assert await create(store, "r2") == [0, b"ada"], "another request finds the id taken"
    assert await raw(store).hget(VOICE, "request") == b"r1"


async def test_an_idempotency_key_stands_for_one_request(store: Store) -> None:
    assert await create(store, "r1", digest="d1") == [1, b"ada"]
    assert await create(store, "r2", voice="other", digest="d1") == [1, b"ada"]
    assert await create(store, "r3", voice="other", digest="d2") == [-3, b""]
    assert await raw(store).exists(layout.voice_key("acme", "other")) == 0


async def test_nothing_is_made_of_a_revoked_recording_or_of_one_consent_too_many(store: Store) -> None:
    assert await create(store, "r1", most=0) == [-2, b""]
    await raw(store).hset(REVOKED, mapping={"mark": "c0"})
    assert await create(store, "r1") == [-1, b""]
    await raw(store).delete(REVOKED)
    await raw(store).zadd(CONSENTS, {"c0": 0})
    assert await create(store, "r1") == [-4, b""], "nobody has noted yet which recordings are revoked"
    assert await raw(store).exists(VOICE, CONSENT) == 0


@pytest.mark.parametrize(("request_id", "consent_id"), [("r2", "c1"), ("r1", "c2")])
async def test_a_deletion_takes_the_voice_that_it_read_and_no_later_one(
    store: Store, request_id: str, consent_id: str
) -> None:
    await create(store, "r1")
    await raw(store).hset(VOICE, "consent_id", "c1")
    embeddings, used = embedding_keys("acme")
    await raw(store).hset(embeddings, mapping={"ada:one": "1", "ada-2:one": "2"})
    await raw(store).zadd(used, {"ada:one": 1, "ada-2:one": 2})
    assert await delete(store, request_id, consent_id) == [0, 0]
    assert await delete(store, "r1", "c1") == [1, 0]
    assert await raw(store).exists(VOICE, INDEX) == 0
    assert await raw(store).hkeys(embeddings) == [b"ada-2:one"]
    assert await raw(store).zrange(used, 0, -1) == [b"ada-2:one"]
    assert await raw(store).hget(CONSENT, "voice:ada") == b"5.5 7.5"


async def test_an_id_without_a_voice_is_unlisted_and_one_with_a_voice_stays(store: Store) -> None:
    await create(store, "r1")
    await raw(store).zadd(INDEX, {"gone": 0})
    for voice, left in (("ada", 0), ("gone", 1)):
        assert await store.write(layout.UNLIST, [layout.voice_key("acme", voice), INDEX], [voice]) == left
    assert await raw(store).zrange(INDEX, 0, -1) == [b"ada"]
