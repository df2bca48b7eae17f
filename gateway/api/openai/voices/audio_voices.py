"""/v1/audio/voices and /v1/audio/voice_consents: voices in the forms of OpenAI's API and of programs with a picker."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.access.caller import Caller
from gateway.api.auth import http_caller
from gateway.api.errors import BadParameter
from gateway.api.openai.audio.forms import read_form
from gateway.api.openai.paging import list_object, page_of
from gateway.audio.read import MAX_S, read_recording
from gateway.conversation.backend import Backend
from gateway.conversation.transcripts.recording_transcript import counted, transcript_of
from gateway.pipeline.enrolment import NewVoice, add_voice, check_recording
from gateway.pipeline.erasure import recorded_consents
from gateway.store.consents import Consent, check_consent_id
from gateway.store.voices import MAX_PAGE_SIZE, OtherRequest, Voice, check_voice_id
from services.common.errors import AlreadyExists, ChromaError, NotFound
from services.common.wire.audio import HEARING_RATE_HZ

_VOICE_FIELDS = ("name", "consent", "type", "transcript", "consent_subject", "voice_id")
_CONSENT_FIELDS = ("name", "language")
_CONSENTS_PAGE_SIZE, _MAX_CONSENTS_PAGE_SIZE = 20, 100
"""OpenAI's."""


async def list_audio_voices(request: Request) -> JSONResponse:
    """GET: the voices, up to 1,000 unless `limit` says less. `data` has OpenAI's form, `voices` that of Open WebUI."""
    backend, caller = http_caller(request)
    limit, after = page_of(request, MAX_PAGE_SIZE, MAX_PAGE_SIZE)
    if after:
        check_voice_id(after)
    found, more = await backend.voices.page(caller.tenant, after=after, size=limit)
    voices = [{"id": voice.voice_id, "name": voice.display_name} for voice in found]
    return JSONResponse({**list_object([_voice_object(voice) for voice in found], more), "voices": voices})


async def create_audio_voice(request: Request) -> JSONResponse:
    """POST: enrol a voice from OpenAI's form: `name`, `audio_sample`, and `consent`, which is the id of a recorded
    consent, or says in words who agreed and how.

    Beyond OpenAI's form: the `transcript` of the sample, which may be missing where the server transcribes; `voice_id`
    and `consent_subject` as in /v1/voices.
    """
    backend, caller = http_caller(request)
    sample, texts = await read_form(request, file_field="audio_sample", fields=_VOICE_FIELDS)
    if texts.get("type", "audio_sample") != "audio_sample":
        raise BadParameter("type", "type: expected audio_sample: a voice is made from a recording of a person")
    consent = texts.get("consent", "").strip()
    if not consent:
        expected = "`consent`: the id of a recorded consent, or who agreed to the cloning of this voice, and how"
        raise BadParameter("consent", f"expected {expected}", "missing_required_parameter")
    wanted = NewVoice(
        audio_file=sample,
        transcript=texts.get("transcript", "").strip() or await _transcript(sample, backend, caller),
        consent=consent,
        subject=texts.get("consent_subject", ""),
        voice_id=texts.get("voice_id", ""),
        display_name=texts.get("name", ""),
        idempotency_key=request.headers.get("idempotency-key", ""),
    )
    parts = backend.voices, backend.upstreams, backend.audit, backend.usage
    try:
        if consent.startswith(("consent-", "cons_")):
            voice = await recorded_consents.add_voice_under(consent, wanted, *parts, backend.eraser.consent, caller)
        else:
            voice = await add_voice(*parts, caller, wanted)
    except OtherRequest as error:
        raise AlreadyExists(error.message) from None
    return JSONResponse(_voice_object(voice))


async def delete_audio_voice(request: Request) -> JSONResponse:
    """DELETE: delete a voice for good."""
    backend, caller = http_caller(request)
    voice_id = request.path_params["voice_id"]
    await backend.eraser.voice(caller, voice_id)
    return JSONResponse({"id": voice_id, "object": "audio.voice.deleted", "deleted": True})


async def create_voice_consent(request: Request) -> JSONResponse:
    """POST: record a consent, which a person of this `name` states in the `recording`."""
    backend, caller = http_caller(request)
    recording, texts = await read_form(request, file_field="recording", fields=_CONSENT_FIELDS)
    consent = await recorded_consents.record_consent(
        backend.voices,
        backend.audit,
        backend.usage,
        caller,
        name=texts.get("name", ""),
        language=texts.get("language", ""),
        recording=recording,
    )
    return JSONResponse(_consent_object(consent))


async def list_voice_consents(request: Request) -> JSONResponse:
    """GET: a page of the recorded consents that hold, in order of their ids."""
    backend, caller = http_caller(request)
    limit, after = page_of(request, _MAX_CONSENTS_PAGE_SIZE, _CONSENTS_PAGE_SIZE)
    if after:
        check_consent_id(after)
    found: list[dict[str, Any]] = []
    async for consent in recorded_consents.recorded_consents(backend.voices, caller.tenant, after):
        if len(found) == limit:
            return JSONResponse(list_object(found, has_more=True))
        found.append(_consent_object(consent))
    return JSONResponse(list_object(found, has_more=False))


async def get_voice_consent(request: Request) -> JSONResponse:
    """GET: one recorded consent. One that is revoked counts as deleted."""
    backend, caller = http_caller(request)
    consent_id = request.path_params["consent_id"]
    consent = await recorded_consents.recorded_consent(backend.voices, caller.tenant, consent_id)
    if consent.revoked:
        raise NotFound(f"no recorded consent {consent_id[:80]!r}")
    return JSONResponse(_consent_object(consent))


async def delete_voice_consent(request: Request) -> JSONResponse:
    """DELETE: revoke a recorded consent, which erases its voices. Its record stays as evidence in /v1/consents."""
    backend, caller = http_caller(request)
    consent_id = request.path_params["consent_id"]
    await recorded_consents.recorded_consent(backend.voices, caller.tenant, consent_id)
    await backend.eraser.consent(caller, consent_id)
    return JSONResponse({"id": consent_id, "object": "audio.voice_consent", "deleted": True})


async def _transcript(sample: bytes, backend: Backend, caller: Caller) -> str:
    """The words of a sample whose transcript the client does not know. Raises BadParameter where the server does not
    transcribe, and for a sample that is no recording."""
    if not backend.settings.transcribe:
        expected = "the `transcript` of the sample, word for word: the voice is made from both"
        raise BadParameter("transcript", f"expected {expected}", "missing_required_parameter")
    await check_recording(backend.voices, backend.audit, caller, sample)
    async with backend.seat(caller):
        try:
            samples = await read_recording(sample, rate_hz=HEARING_RATE_HZ, max_s=MAX_S)
        except ChromaError as error:
            raise BadParameter("audio_sample", f"audio_sample: {error.message}") from None
        async with counted(backend, caller, len(samples) / HEARING_RATE_HZ) as turn_id:
            return (await transcript_of(samples, turn_id, backend, caller, _ignore)).text


async def _ignore(text: str) -> None:
    """Drop a piece: only the whole transcript is used."""


def _voice_object(voice: Voice) -> dict[str, Any]:
    return {
        "id": voice.voice_id,
        "object": "audio.voice",
        "name": voice.display_name,
        "created_at": int(voice.created),
        "type": "audio_sample",
    }


def _consent_object(consent: Consent) -> dict[str, Any]:
    return {
        "id": consent.consent_id,
        "object": "audio.voice_consent",
        "name": consent.subject,
        "language": recorded_consents.language_of(consent),
        "created_at": int(consent.created),
    }
