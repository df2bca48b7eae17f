"""Consents over every face: listed, revoked with their voices, and refused afterwards."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from grpc import StatusCode, aio

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.consent_pb2 import RevokeConsentRequest
from chroma.v1.consent_pb2_grpc import ConsentServiceStub
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.audit_lines import until_audited
from tests.support.gateway_client import Client, audio_file, new_voice, speech

RECORDING = audio_file(speech(2))


@pytest.fixture
def audit_file(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
async def gateway(start_gateway: StartGateway, audit_file: Path) -> AsyncIterator[Client]:
    """A gateway with the voice `ada`."""
    async with start_gateway(audit_file=audit_file, transcribe=True) as client:
        await client.voices.CreateVoice(
            new_voice("ada", transcript="quilts", consent="Ada agreed", audio_file=RECORDING)
        )
        yield client


@pytest.fixture
async def http(gateway: Client) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=60) as http:
        yield http


async def test_a_revoked_consent_takes_all_its_voices_and_no_other(gateway: Client, http: httpx.AsyncClient) -> None:
    consents = ConsentServiceStub(gateway.channel)
    again = new_voice("ada-2", transcript="other words", consent="Ada agreed", audio_file=RECORDING)
    voice = (await gateway.voices.CreateVoice(again)).voice
    await gateway.voices.CreateVoice(new_voice("bob", consent="Bob agreed"))
    shown = (await http.get(f"/v1/consents/{voice.consent_id}")).json()
    assert [it["id"] for it in shown["voices"]] == ["ada", "ada-2"]
    async with gateway.converse() as talk:
        await talk.ask("question")
        revoked = await http.post(f"/v1/consents/{voice.consent_id}/revoke")
        assert (await talk.ask("question")).error.code == StatusCode.NOT_FOUND.value[0]
    assert revoked.json()["erasure"] == {"file_rewritten": True, "pending_replicas": 0}
    assert revoked.json()["revoked_at"]
    assert all(it["erased_at"] for it in revoked.json()["voices"])
    kept = (await gateway.voices.ListVoices(pb.ListVoicesRequest())).voices
    assert [voice.voice_id for voice in kept] == ["bob"]
    with pytest.raises(aio.AioRpcError) as raised:
        await gateway.voices.CreateVoice(again)
    assert (raised.value.code(), "was revoked" in (raised.value.details() or "")) == (
        StatusCode.FAILED_PRECONDITION,
        True,
    )
    await gateway.voices.CreateVoice(new_voice("ada", consent="Ada agreed again", audio_file=audio_file(speech(3))))
    await consents.RevokeConsent(RevokeConsentRequest(consent_id=voice.consent_id))
    await gateway.voices.GetVoice(pb.GetVoiceRequest(voice_id="ada"))


async def test_a_recording_whose_consent_was_revoked_is_cloned_under_no_other_name(
    gateway: Client, http: httpx.AsyncClient, audit_file: Path, fakes: Fakes
) -> None:
    voice = (await gateway.voices.GetVoice(pb.GetVoiceRequest(voice_id="ada"))).voice
    assert (await http.post(f"/v1/consents/{voice.consent_id}/revoke")).status_code == 200
    encoded = len(fakes.codec.script.opened)
    with pytest.raises(aio.AioRpcError, match="was revoked") as raised:
        await gateway.voices.CreateVoice(new_voice("eve", consent="Eve agreed", audio_file=RECORDING))
    assert raised.value.code() is StatusCode.FAILED_PRECONDITION
    form = {"transcript": "hello", "consent": "Eve agreed", "consent_subject": "Eve"}
    one_reply = {
        "messages": [{"role": "user", "content": "question"}],
        "prompt_text": "hello",
        "prompt_audio": base64.b64encode(RECORDING).decode(),
        "prompt_consent": "Eve agreed",
    }
    for answer in (
        await http.post("/v1/voices", data=form, files={"file": RECORDING}),
        await http.post("/v1/audio/voices", data={**form, "name": "Eve"}, files={"audio_sample": RECORDING}),
        await http.post("/v1/audio/voices", data={"name": "Eve", "consent": "yes"}, files={"audio_sample": RECORDING}),
        await http.post("/v1/chat/completions", json=one_reply),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "failed_precondition")
    assert len(fakes.codec.script.opened) == encoded
    assert fakes.reasoner.script.opened == []
    assert len((await http.get("/v1/consents")).json()["data"]) == 1
    refused = [("voice.enrol", "failed_precondition")] * 4 + [("voice.clone_once", "failed_precondition")]
    other = {"chroma-tenant": "other"}
    cloned = await http.post("/v1/voices", data=form, files={"file": RECORDING}, headers=other)
    assert cloned.status_code == 201, cloned.text
    lines = await until_audited(audit_file, "voice.clone_once", "failed_precondition")
    after = lines.index(("consent.revoke", "done")) + 1
    assert lines[after : after + 5] == refused


async def test_consents_over_http_belong_to_their_tenant(http: httpx.AsyncClient) -> None:
    page = (await http.get("/v1/consents", params={"limit": 1})).json()
    (consent,) = page["data"]
    assert (consent["words"], consent["revoked_at"], page["has_more"]) == ("Ada agreed", None, False)
    other = {"chroma-tenant": "other"}
    path = f"/v1/consents/{consent['id']}"
    assert (await http.get("/v1/consents", headers=other)).json()["data"] == []
    for answer in (await http.get(path, headers=other), await http.post(f"{path}/revoke", headers=other)):
        assert answer.status_code == 404
    for query in ({"limit": "9" * 5_000}, {"limit": "²"}, {"after": "x"}):
        assert (await http.get("/v1/consents", params=query)).status_code == 400


async def test_a_voice_of_one_request_leaves_a_consent_and_is_refused_once_it_is_revoked(
    http: httpx.AsyncClient, audit_file: Path, fakes: Fakes
) -> None:
    known = set(fakes.speech_gen.script.voices)
    body = {
        "messages": [{"role": "user", "content": "question"}],
        "prompt_text": "hello",
        "prompt_audio": base64.b64encode(RECORDING).decode(),
        "prompt_consent": "Eve agreed",
        "prompt_consent_subject": "Eve",
    }
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert fakes.speech_gen.script.voices == known
    (forgotten,) = fakes.speech_gen.script.forgotten
    assert forgotten.voice_fingerprint not in known
    consents = {it["words"]: it for it in (await http.get("/v1/consents")).json()["data"]}
    consent = consents["Eve agreed"]
    assert (consent["subject"], consent["voices"]) == ("Eve", [])
    await until_audited(audit_file, "voice.clone_once", "done")
    assert (await http.post(f"/v1/consents/{consent['id']}/revoke")).status_code == 200
    refused = await http.post("/v1/chat/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "failed_precondition")
