"""/v1/audio/voices, /v1/audio/voice_consents and /v1/audio/models, with OpenAI's own Python client and as pickers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.audio import Voice, VoiceConsent

from chroma.v1 import dialogue_pb2 as pb
from gateway.pipeline.erasure import recorded_consents
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, audio_file, new_voice, speech

SAMPLE = ("sample.wav", audio_file(speech(2, rate_hz=24_000)), "audio/wav")
STATEMENT = ("consent.wav", audio_file(speech(3, rate_hz=24_000, seed=2)), "audio/wav")
WORDS: Any = {"transcript": "hello"}


@pytest.fixture
async def http(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of the gateway."""
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}/v1", timeout=60) as http:
        yield http


async def test_a_picker_finds_the_voices_and_the_models_in_each_form_that_is_in_use(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/audio/voices")).json()
    assert listed["voices"] == [{"id": "ada", "name": "ada"}]
    assert [Voice.model_validate(voice, strict=True).id for voice in listed["data"]] == ["ada"]
    assert (listed["object"], listed["has_more"], listed["last_id"]) == ("list", False, "ada")
    models = (await http.get("/audio/models")).json()
    assert models["models"] == [{"id": "chroma-1.0", "name": "chroma-1.0"}]
    assert [model["id"] for model in models["data"]] == ["chroma-1.0"]
    assert (await http.get("/audio/voices?limit=0")).status_code == 400
    assert (await http.get("/audio/voices?after=ada")).json()["voices"] == []


async def test_a_voice_is_enrolled_under_a_recorded_consent_and_is_erased_with_it(
    sdk: AsyncOpenAI, http: httpx.AsyncClient, client: Client
) -> None:
    consent = await sdk.audio.voice_consents.create(name="Grace", language="en-US", recording=STATEMENT)
    VoiceConsent.model_validate(consent.to_dict(), strict=True)
    assert (consent.name, consent.language) == ("Grace", "en-US")
    assert (await sdk.audio.voice_consents.retrieve(consent.id)) == consent
    assert [it.id async for it in sdk.audio.voice_consents.list()] == [consent.id]
    voice = await sdk.audio.voices.create(
        name="Grace", audio_sample=SAMPLE, consent=consent.id, type="audio_sample", extra_body=WORDS
    )
    Voice.model_validate(voice.to_dict(), strict=True)
    stored = await client.voices.GetVoice(pb.GetVoiceRequest(voice_id=voice.id))
    assert (stored.voice.display_name, stored.voice.transcript) == ("Grace", "hello")
    records = (await http.get("/consents")).json()["data"]
    assert [record["subject"] for record in records if record["id"] == stored.voice.consent_id] == ["Grace"]
    spoken = await sdk.audio.speech.create(model="m", voice={"id": voice.id}, input="Hello.", response_format="pcm")
    assert spoken.content

    deleted = await sdk.audio.voice_consents.delete(consent.id)
    assert (deleted.id, deleted.deleted) == (consent.id, True)
    assert (await http.get(f"/voices/{voice.id}")).status_code == 404
    assert [it.id async for it in sdk.audio.voice_consents.list()] == []
    with pytest.raises(openai.NotFoundError):
        await sdk.audio.voice_consents.retrieve(consent.id)
    with pytest.raises(openai.ConflictError, match="was revoked"):
        await sdk.audio.voices.create(name="G", audio_sample=SAMPLE, consent=consent.id, extra_body=WORDS)
    with pytest.raises(openai.ConflictError):  # neither the statement nor the sample can be used again
        await sdk.audio.voice_consents.create(name="Other", language="en", recording=STATEMENT)
    with pytest.raises(openai.ConflictError):
        await sdk.audio.voices.create(name="G", audio_sample=SAMPLE, consent="Grace agreed", extra_body=WORDS)
    revoked = {record["id"]: record["revoked_at"] for record in (await http.get("/consents")).json()["data"]}
    assert None not in (revoked[consent.id], revoked[stored.voice.consent_id])


async def test_a_recorded_consent_is_revoked_as_other_consents_are_too(
    sdk: AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    consent = await sdk.audio.voice_consents.create(name="Grace", language="en-US", recording=STATEMENT)
    voice = await sdk.audio.voices.create(name="G", audio_sample=SAMPLE, consent=consent.id, extra_body=WORDS)
    assert (await http.post(f"/consents/{consent.id}/revoke")).status_code == 200
    assert (await http.get(f"/voices/{voice.id}")).status_code == 404
    assert (await http.get("/voices/ada")).status_code == 200


async def test_a_voice_is_erased_when_its_consent_is_revoked_while_it_is_enrolled(
    sdk: AsyncOpenAI, http: httpx.AsyncClient, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    consent = await sdk.audio.voice_consents.create(name="Grace", language="en-US", recording=STATEMENT)
    enrol = recorded_consents.add_voice

    async def slow(*arguments: Any) -> Any:
        assert (await http.delete(f"/audio/voice_consents/{consent.id}")).status_code == 200
        return await enrol(*arguments)

    monkeypatch.setattr(recorded_consents, "add_voice", slow)
    with pytest.raises(openai.ConflictError, match="was revoked"):
        await sdk.audio.voices.create(name="G", audio_sample=SAMPLE, consent=consent.id, extra_body=WORDS)
    assert [voice["id"] for voice in (await http.get("/voices")).json()["data"]] == ["ada"]


async def test_a_consent_in_words_is_enough_and_the_voice_is_deleted_for_good(
    sdk: AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    extra: Any = {"transcript": "hello", "voice_id": "grace", "consent_subject": "Grace"}
    voice = await sdk.audio.voices.create(name="G", audio_sample=SAMPLE, consent="Grace agreed", extra_body=extra)
    assert (voice.id, voice.name) == ("grace", "G")
    assert (await sdk.audio.voices.delete("grace")).object == "audio.voice.deleted"
    with pytest.raises(openai.NotFoundError):
        await sdk.audio.voices.delete("grace")


async def test_consents_come_in_pages(sdk: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = {(await sdk.audio.voice_consents.create(name=name, language="en", recording=STATEMENT)).id for name in "abc"}
    page = (await http.get("/audio/voice_consents?limit=2")).json()
    assert (len(page["data"]), page["has_more"], page["last_id"]) == (2, True, sorted(made)[1])
    assert [it.id async for it in sdk.audio.voice_consents.list(limit=2)] == sorted(made)


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"consent": "consent-" + "0" * 32}, 404, None),
        ({"consent": "cons_1234"}, 404, None),
        ({"consent": " "}, 400, "consent"),
        ({"consent": "..."}, 400, None),
        ({"transcript": ""}, 400, "transcript"),
        ({"type": "prompt"}, 400, "type"),
        ({"prompt": "a deep voice"}, 400, "prompt"),
        ({"voice_id": "ada"}, 409, None),
    ],
    ids=str,
)
async def test_a_form_without_consent_or_words_is_refused(
    http: httpx.AsyncClient, fields: dict[str, str], status: int, param: str | None
) -> None:
    data = {"name": "G", "consent": "Grace agreed", "transcript": "hello", **fields}
    answer = await http.post("/audio/voices", data=data, files={"audio_sample": SAMPLE})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


async def test_a_statement_needs_a_name_a_language_and_sound(http: httpx.AsyncClient) -> None:
    form = {"name": "Grace", "language": "en"}
    for data, file in (({"name": "Grace"}, STATEMENT), ({"language": "en"}, STATEMENT), (form, ("a.wav", b"no sound"))):
        answer = await http.post("/audio/voice_consents", data=data, files={"recording": file})
        assert answer.status_code == 400
    assert (await http.get("/audio/voice_consents")).json()["data"] == []


async def test_the_reasoner_writes_the_sample_down_where_the_server_transcribes(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with (
        start_gateway(transcribe=True) as client,
        AsyncOpenAI(api_key="none", base_url=f"http://{client.http_address}/v1", max_retries=0) as sdk,
    ):
        voice = await sdk.audio.voices.create(name="G", audio_sample=SAMPLE, consent="Grace agreed")
        stored = await client.voices.GetVoice(pb.GetVoiceRequest(voice_id=voice.id))
        assert stored.voice.transcript == "".join(REPLY)


async def test_recordings_of_consents_count_as_uploads(start_gateway: StartGateway) -> None:
    async with (
        start_gateway(key_uploads_per_day=1) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}/v1", timeout=60) as http,
    ):
        await client.voices.CreateVoice(new_voice("ada"))
        form = {"name": "Grace", "language": "en"}
        answer = await http.post("/audio/voice_consents", data=form, files={"recording": STATEMENT})
        assert answer.status_code == 429
