"""Voices in a real store: the index of each tenant, voices of earlier versions, what a deletion takes along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import EnrollVoiceResponse, VoicePrompt
from chroma.v1.tensor_pb2 import DATA_TYPE_BFLOAT16, Tensor
from gateway.store.cipher import Cipher
from gateway.store.connection.server import Command
from gateway.store.consents import Consent
from gateway.store.embeddings import EmbeddingLimits
from gateway.store.redis import Store
from gateway.store.voices import RequestKey, SpokenVoice, Voice, Voices, check_voice_id, new_voice_id
from services.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.common.wire.voice_fingerprint import voice_fingerprint
from tests.support.hurt_store import raw

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


def voice(voice_id: str, consent_id: str = "") -> Voice:
    return Voice(voice_id, voice_id.title(), "hello", "agreed", 1.5, 100.25, consent_id)


def consent(voice_id: str, tenant: str = "t") -> Consent:
    return Consent(tenant, "Ada", "agreed", f"sha256 of {voice_id}", "key-1", 100.25)


async def create(voices: Voices, tenant: str, voice_id: str, enrolled: EnrollVoiceResponse = ENROLLED) -> None:
    agreed = consent(voice_id, tenant)
    await voices.create(tenant, voice(voice_id, agreed.consent_id), enrolled, agreed)


async def delete(voices: Voices, tenant: str, voice_id: str) -> None:
    await voices.delete(tenant, await voices.stored(tenant, voice_id))


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
    await raw(store).hset(f"chroma:voice:{tenant}:{voice_id}", mapping=fields)


async def ids(voices: Voices, tenant: str, *, after: str = "", size: int = 100) -> tuple[list[str], bool]:
    page, more = await voices.page(tenant, after=after, size=size)
    return [voice.voice_id for voice in page], more


def _url(store: Store) -> str:
    options = raw(store).connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options.get('db', 0)}"


class Commands:
    """The names of the commands that a store is sent."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        ask_all = store.ask_all

        async def record(commands: Sequence[Command], **options: Any) -> Any:
            self.names += [str(command[0]) for command in commands]
            return await ask_all(commands, **options)

        monkeypatch.setattr(store, "ask_all", record)


async def test_a_created_voice_is_read_as_it_was_given(voices: Voices) -> None:
    await create(voices, "t", "ada")
    assert await voices.get("t", "ada") == voice("ada", consent("ada").consent_id)
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
    await create(voices, "t", "ada")
    await put_old(store, "t", "old")
    for taken in ("ada", "old"):
        with pytest.raises(AlreadyExists):
            await create(voices, "t", taken, EnrollVoiceResponse())
    assert await voices.get("t", "ada") == voice("ada", consent("ada").consent_id)
    assert (await voices.get("t", "old")).display_name == "Old"


async def test_a_listing_and_a_deletion_touch_the_tenant_alone(voices: Voices) -> None:
    for tenant in ("a", "b"):
        for voice_id in ("eve", "ada", "bob"):
            await create(voices, tenant, voice_id)
    await delete(voices, "a", "bob")
    assert await ids(voices, "a") == (["ada", "eve"], False)
    assert await ids(voices, "b") == (["ada", "bob", "eve"], False)
    assert await ids(voices, "b", size=2) == (["ada", "bob"], True)
    assert await ids(voices, "b", after="bob", size=2) == (["eve"], False)
    assert await ids(voices, "empty") == ([], False)


async def test_deleted_voices_leave_their_consents_and_nothing_else_behind(voices: Voices, store: Store) -> None:
    for voice_id in ("ada", "ada-2"):
        await create(voices, "t", voice_id)
    await delete(voices, "t", "ada")
    kept = await voices.spoken("t", "ada-2")
    assert kept.embeddings is not None
    assert await kept.embeddings.find("one") == ROWS
    await delete(voices, "t", "ada-2")
    consents = sorted(await raw(store).keys("*{t}*"))
    assert consents == sorted(
        [
            b"chroma:consents:{t}",
            b"chroma:revoked_recordings:{t}",
            *(f"chroma:consent:{{t}}:{consent(it).consent_id}".encode() for it in ("ada", "ada-2")),
        ]
    )
    for call in (voices.get, voices.spoken, voices.stored):
        with pytest.raises(NotFound):
            await call("t", "ada")


async def test_a_deletion_takes_the_voice_that_was_read_and_no_later_one_of_its_id(voices: Voices) -> None:
    await create(voices, "t", "ada")
    first = await voices.stored("t", "ada")
    assert (first.prompt, first.checkpoints) == (ENROLLED.prompt, ("one",))
    await voices.delete("t", first)
    await create(voices, "t", "ada")
    with pytest.raises(NotFound):
        await voices.delete("t", first)
    assert await voices.exists("t", "ada")


async def test_an_idempotency_key_stands_for_the_voice_of_its_first_request(voices: Voices) -> None:
    key = RequestKey("retry-1", "digest")
    agreed = consent("ada")
    assert await voices.requested("t", key) == ""
    assert await voices.create("t", voice("ada"), ENROLLED, agreed, key) == "ada"
    assert await voices.create("t", voice("voice-2"), ENROLLED, agreed, key) == "ada"
    assert await voices.requested("t", key) == "ada"
    assert await ids(voices, "t") == (["ada"], False)
    assert await voices.requested("other", key) == ""
    for call in (
        voices.requested("t", RequestKey("retry-1", "another")),
        voices.create("t", voice("eve"), ENROLLED, agreed, RequestKey("retry-1", "another")),
    ):
        with pytest.raises(InvalidArgument, match="another request"):
            await call
    ttl_s = await raw(voices.store).ttl((await raw(voices.store).keys("chroma:voice_request:*"))[0])
    assert 86_000 < ttl_s <= 86_400


async def test_a_voice_is_encrypted_under_a_key_and_read_under_it_alone(store: Store) -> None:
    locked = Voices(Store(_url(store), Cipher({"k1": bytes(32)})), LIMITS)
    await create(locked, "t", "ada")
    fields: dict[Any, Any] = await raw(store).hgetall("chroma:voice:{t}:ada")
    for name in (b"name", b"transcript", b"consent", b"codes", b"transcript_ids"):
        assert b"k1" in fields[name], name
    for name, place in ((b"transcript", b"name"), (b"name", b"transcript")):
        await raw(store).hset("chroma:voice:{t}:eve", mapping={**fields, name: fields[place]})
    spoken = await locked.spoken("t", "ada")
    assert spoken.prompt == ENROLLED.prompt
    assert spoken.embeddings is not None
    assert await spoken.embeddings.find("one") == ROWS
    assert (await locked.get("t", "ada")).transcript == "hello"
    with pytest.raises(FailedPrecondition, match="does not decrypt"):
        await locked.get("t", "eve")
    with pytest.raises(FailedPrecondition, match="not among CHROMA_STORE_KEYS"):
        await Voices(store, LIMITS).get("t", "ada")
    await locked.store.close()


async def test_a_listing_does_not_walk_the_keys_of_the_store(
    voices: Voices, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(voices, "t", "ada")
    await ids(voices, "t")
    commands = Commands(store, monkeypatch)
    assert await ids(voices, "t", size=1) == (["ada"], False)
    assert "ZRANGEBYLEX" in commands.names
    assert "SCAN" not in commands.names
    assert "KEYS" not in commands.names


async def test_voices_of_an_earlier_version_are_read_listed_and_deleted(voices: Voices, store: Store) -> None:
    for tenant, voice_id in (("a", "old"), ("a", "older"), ("b", "old")):
        await put_old(store, tenant, voice_id)
    await voices.index_old_voices()
    await create(voices, "a", "new")
    assert await ids(voices, "a") == (["new", "old", "older"], False)
    assert await ids(voices, "b") == (["old"], False)
    assert (await voices.spoken("a", "old")).prompt == ENROLLED.prompt
    assert await voices.exists("a", "older")
    assert not await raw(store).hexists("chroma:voice:a:old", "embeddings")
    await delete(voices, "a", "old")
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
    await delete(voices, "t", "old")
    assert await raw(store).keys("*{t}*") == []


async def test_a_voice_that_an_old_gateway_makes_after_the_indexing_is_listed_once_it_was_used(
    voices: Voices, store: Store
) -> None:
    await voices.index_old_voices()
    assert await ids(voices, "t") == ([], False)
    await put_old(store, "t", "late")
    await voices.spoken("t", "late")
    assert await ids(voices, "t") == (["late"], False)


async def test_an_id_whose_voice_an_old_gateway_deleted_is_passed_over_and_leaves_the_index(
    voices: Voices, store: Store
) -> None:
    await put_old(store, "t", "ada")
    await voices.index_old_voices()
    await create(voices, "t", "bob")
    assert await ids(voices, "t") == (["ada", "bob"], False)
    await raw(store).delete("chroma:voice:t:ada")
    assert await ids(voices, "t", size=1) == (["bob"], False)
    assert await raw(store).zrange("chroma:voices:{t}", 0, -1) == [b"bob"]


@pytest.mark.parametrize("bad", ["", "-eve", "Eve", "a" * 65, "a:b", "a b"])
def test_a_bad_voice_id_is_refused(bad: str) -> None:
    with pytest.raises(InvalidArgument, match="expected a voice id of 1 to 64"):
        check_voice_id(bad)


def test_a_random_id_is_valid() -> None:
    check_voice_id(new_voice_id())
    assert new_voice_id() != new_voice_id()
