"""/v1/voices: enrols a voice from an upload; lists, reads and deletes voices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.access.caller import Caller, Scope
from gateway.api.auth import http_caller
from gateway.api.openai.audio.forms import read_form
from gateway.api.openai.paging import list_object, page_of
from gateway.pipeline.enrolment import NewVoice, add_voice
from gateway.store.voices import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, OtherRequest, Voice, check_voice_id
from services.common.errors import AlreadyExists

_FIELDS = ("voice_id", "name", "transcript", "consent", "consent_subject")


async def create_voice(request: Request) -> JSONResponse:
    """POST: enrol a voice from a multipart form.

    Required fields: the recording (`file`), its `transcript`, and who consented and how (`consent`). Optional fields:
    the `voice_id` and the `name` to give the voice, and the person who consented (`consent_subject`). With the header
    `Idempotency-Key`, the same request can be sent again within a day and enrols one voice.
    """
    backend, caller = http_caller(request)
    recording, texts = await read_form(request, file_field="file", fields=_FIELDS)
    wanted = NewVoice(
        audio_file=recording,
        transcript=texts.get("transcript", ""),
        consent=texts.get("consent", ""),
        subject=texts.get("consent_subject", ""),
        voice_id=texts.get("voice_id", ""),
        display_name=texts.get("name", ""),
        idempotency_key=request.headers.get("idempotency-key", ""),
    )
    try:
        voice = await add_voice(backend.voices, backend.upstreams, backend.audit, backend.usage, caller, wanted)
    except OtherRequest as error:
        raise AlreadyExists(error.message) from None
    return JSONResponse(voice_object(voice, caller), 201)


async def list_voices(request: Request) -> JSONResponse:
    """GET: a page of voices in order of their ids: at most `limit` of those whose ids follow `after`."""
    backend, caller = http_caller(request)
    limit, after = page_of(request, MAX_PAGE_SIZE, DEFAULT_PAGE_SIZE)
    if after:
        check_voice_id(after)
    voices, more = await backend.voices.page(caller.tenant, after=after, size=limit)
    return JSONResponse(list_object([voice_object(voice, caller) for voice in voices], more))


async def get_voice(request: Request) -> JSONResponse:
    """GET: one voice."""
    backend, caller = http_caller(request)
    voice = await backend.voices.get(caller.tenant, request.path_params["voice_id"])
    return JSONResponse(voice_object(voice, caller))


async def delete_voice(request: Request) -> JSONResponse:
    """DELETE: delete a voice for good."""
    backend, caller = http_caller(request)
    voice_id = request.path_params["voice_id"]
    erasure = await backend.eraser.voice(caller, voice_id)
    deleted = {"id": voice_id, "object": "voice.deleted", "deleted": True, "erasure": asdict(erasure)}
    return JSONResponse(deleted)


def voice_object(voice: Voice, caller: Caller) -> dict[str, Any]:
    """Return a voice as JSON. The words of its consent name a person: they are for callers with the scope `voices`."""
    return {
        "id": voice.voice_id,
        "object": "voice",
        "name": voice.display_name,
        "transcript": voice.transcript,
        "consent": voice.consent if Scope.VOICES in caller.scopes else "",
        "consent_id": voice.consent_id or None,
        "duration_s": round(voice.duration_s, 3),
        "created_at": int(voice.created),
    }
