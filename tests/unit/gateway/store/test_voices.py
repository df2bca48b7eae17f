"""Voices in a real store: the index of each tenant, voices of earlier versions, what a deletion takes along."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import EnrollVoiceResponse, VoicePrompt
from chroma.v1.tensor_pb2 import DATA_TYPE_BFLOAT16, Tensor
from gateway.store.embeddings import EmbeddingLimits
from gateway.store.redis import Store
from gateway.store.voices import SpokenVoice, Voice, Voices, check_voice_id, new_voice_id
from services.common.errors import AlreadyExists, InvalidArgument, NotFound
from services.common.wire.voice_fingerprint import voice_fingerprint

LIMITS = EmbeddingLimits(count=8, size_bytes=1_000_000)
CODES, IDS = list(range(16)), [7, 9]
ROWS = Tensor(dtype=DATA_TYPE_BFLOAT16, shape=[1, 2], data=b"rows")
ENROLLED = EnrollVoiceResponse(
    prompt=VoicePrompt(frames=CodeFrames(codes=CODES), transcript=TokenIds(ids=IDS)),
    fingerprint="not kept: computed when it is needed",
    embeddings=ROWS,
    checkpoint_fingerprint="one",
)


@pytest.fixture
def voices(store: Store) -> Voices:
    return Voices(store, LIMITS)


def voice(voice_id: str) -> Voice:
    return Voice(voice_id, voice_id.title(), "hello", "agreed", 1.5, 100.25)


async def put_old(store: Store, tenant: str, voice_id: str) -> None:
    """Write a voice as version 0.1 did."""
    fields: Any = {
        "request": "r",
        "name": "Old",
        "transcript": "hello",
        "consent": "agreed",
        "created": 1.0,
        "duration_s": 2.0,
        "codes": np.array(CODES, dtype="<u2").tobytes(),
        "transcript_ids": np.array(IDS, dtype="<u4").tobytes(),
        "fingerprint": "old",
        "embeddings": bytes(1000),
        "embeddings_dtype": "DATA_TYPE_FLOAT32",
        "embeddings_shape": "25,10",
        "checkpoint": "old",
    }
    await store.redis.hset(f"chroma:voice:{tenant}:{voice_id}", mapping=fields)


async def ids(voices: Voices, tenant: str, *, after: str = "", size: int = 100) -> tuple[list[str], bool]:
    page, more = await voices.page(tenant, after=after, size=size)
    return [voice.voice_id for voice in page], more


class Commands:
    """The names of the commands that a store is sent."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        execute = store.redis.execute_command

        async def record(*arguments: Any, **options: Any) -> Any:
            self.names.append(str(arguments[0]))
            return await execute(*arguments, **options)

        monkeypatch.setattr(store.redis, "execute_command", record)


async def test_a_created_voice_is_read_as_it_was_given(voices: Voices) -> None:
    await voices.create("t", voice("ada"), ENROLLED)
    assert await voices.get("t", "ada") == voice("ada")
    assert await voices.exists("t", "ada")
    spoken = await voices.spoken("t", "ada")
    assert spoken.prompt == ENROLLED.prompt
    assert spoken.embeddings is not None
    assert await spoken.embeddings.find("one") == ROWS


def test_a_voice_is_named_by_its_content_and_the_checkpoint() -> None:
    spoken = SpokenVoice("ada", ENROLLED.prompt)
    assert spoken.fingerprint("one") == voice_fingerprint(np.array(CODES).reshape(2, 8), IDS, "one")
    assert spoken.fingerprint("one") != spoken.fingerprint("other")


async def test_a_taken_id_is_refused_and_changes_nothing(voices: Voices, store: Store) -> None:
    await voices.create("t", voice("ada"), ENROLLED)
    await put_old(store, "t", "old")
    for taken in ("ada", "old"):
        with pytest.raises(AlreadyExists):
            await voices.create("t", voice(taken), EnrollVoiceResponse())
    assert await voices.get("t", "ada") == voice("ada")
    assert (await voices.get("t", "old")).display_name == "Old"


async def test_a_listing_and_a_deletion_touch_the_tenant_alone(voices: Voices) -> None:
    for tenant in ("a", "b"):
        for voice_id in ("eve", "ada", "bob"):
            await voices.create(tenant, voice(voice_id), ENROLLED)
    await voices.delete("a", "bob")
    assert await ids(voices, "a") == (["ada", "eve"], False)
    assert await ids(voices, "b") == (["ada", "bob", "eve"], False)
    assert await ids(voices, "b", size=2) == (["ada", "bob"], True)
    assert await ids(voices, "b", after="bob", size=2) == (["eve"], False)
    assert await ids(voices, "empty") == ([], False)


async def test_a_deleted_voice_leaves_nothing_of_its_tenant_behind(voices: Voices, store: Store) -> None:
    for voice_id in ("ada", "ada-2"):
        await voices.create("t", voice(voice_id), ENROLLED)
    await voices.delete("t", "ada")
    kept = await voices.spoken("t", "ada-2")
    assert kept.embeddings is not None
    assert await kept.embeddings.find("one") == ROWS
    await voices.delete("t", "ada-2")
    assert await store.redis.keys("*{t}*") == []
    for call in (voices.get, voices.spoken, voices.delete):
        with pytest.raises(NotFound):
            await call("t", "ada")


async def test_a_listing_does_not_walk_the_keys_of_the_store(
    voices: Voices, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await voices.create("t", voice("ada"), ENROLLED)
    await ids(voices, "t")
    later = Voices(store, LIMITS)  # another process, on a store whose old voices are indexed
    commands = Commands(store, monkeypatch)
    assert await ids(later, "t", size=1) == (["ada"], False)
    assert "ZRANGEBYLEX" in commands.names
    assert "SCAN" not in commands.names
    assert "KEYS" not in commands.names


async def test_voices_of_an_earlier_version_are_read_listed_and_deleted(voices: Voices, store: Store) -> None:
    for tenant, voice_id in (("a", "old"), ("a", "older"), ("b", "old")):
        await put_old(store, tenant, voice_id)
    await voices.create("a", voice("new"), ENROLLED)
    assert await ids(voices, "a") == (["new", "old", "older"], False)
    assert await ids(voices, "b") == (["old"], False)
    assert (await voices.spoken("a", "old")).prompt == ENROLLED.prompt
    assert await voices.exists("a", "older")
    assert not await store.redis.hexists("chroma:voice:a:old", "embeddings")
    await voices.delete("a", "old")
    assert await ids(voices, "a") == (["new", "older"], False)
    assert await ids(voices, "b") == (["old"], False)
    with pytest.raises(NotFound):
        await voices.get("a", "old")


async def test_a_voice_of_an_earlier_version_has_embeddings_like_any_other(voices: Voices, store: Store) -> None:
    await put_old(store, "t", "old")
    stored = (await voices.spoken("t", "old")).embeddings
    assert stored is not None
    assert await stored.find("old") is None
    await stored.keep("one", ROWS)
    assert await stored.find("one") == ROWS
    await voices.delete("t", "old")
    assert await store.redis.keys("*{t}*") == []


async def test_a_voice_that_an_old_gateway_makes_after_the_indexing_is_listed_once_it_was_used(
    voices: Voices, store: Store
) -> None:
    assert await ids(voices, "t") == ([], False)
    await put_old(store, "t", "late")
    await voices.spoken("t", "late")
    assert await ids(voices, "t") == (["late"], False)


async def test_an_id_whose_voice_an_old_gateway_deleted_is_passed_over_and_leaves_the_index(
    voices: Voices, store: Store
) -> None:
    await put_old(store, "t", "ada")
    await voices.create("t", voice("bob"), ENROLLED)
    assert await ids(voices, "t") == (["ada", "bob"], False)
    await store.redis.delete("chroma:voice:t:ada")
    assert await ids(voices, "t", size=1) == (["bob"], False)
    assert await store.redis.zrange("chroma:voices:{t}", 0, -1) == [b"bob"]


@pytest.mark.parametrize("bad", ["", "-eve", "Eve", "a" * 65, "a:b", "a b"])
def test_a_bad_voice_id_is_refused(bad: str) -> None:
    with pytest.raises(InvalidArgument, match="expected a voice id of 1 to 64"):
        check_voice_id(bad)


def test_a_random_id_is_valid() -> None:
    check_voice_id(new_voice_id())
    assert new_voice_id() != new_voice_id()
