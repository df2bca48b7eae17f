"""/v1/voices: enrols a voice from an upload; lists, reads and deletes voices."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.api.auth import caller
from gateway.api.errors import BadParameter, TooLarge
from gateway.audio.read import MAX_FILE_BYTES
from gateway.pipeline.enrolment import add_voice
from gateway.store.voices import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Voice, check_voice_id

_FIELDS = ("voice_id", "name", "transcript", "consent")
_MAX_FORM_BYTES = MAX_FILE_BYTES + 1_000_000
"""Size limit of a whole form: one recording and the texts beside it."""


async def create_voice(request: Request) -> JSONResponse:
    """POST: enrol a voice from a multipart form.

    Required fields: the recording (`file`), its `transcript`, and who consented (`consent`). Optional fields: the
    `voice_id` and the `name` to give the voice.
    """
    backend, tenant = caller(request)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadParameter("body", "expected a multipart form: file, transcript, consent, voice_id, name")
    if int(request.headers.get("content-length") or 0) > _MAX_FORM_BYTES:
        raise TooLarge("file", f"expected a recording of at most {MAX_FILE_BYTES} bytes")
    try:
        async with request.form(max_files=1, max_fields=16) as form:
            unknown = sorted(set(form) - {"file", *_FIELDS})
            if unknown:
                raise BadParameter(unknown[0], f"unknown field {unknown[0]!r}", "unknown_parameter")
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise BadParameter("file", "expected the recording as a file in the field `file`")
            texts = {name: str(form.get(name) or "") for name in _FIELDS}
            recording = await file.read()
    except HTTPException as error:  # Starlette cannot parse the form
        raise BadParameter("body", str(error.detail)) from None
    if len(recording) > MAX_FILE_BYTES:
        raise TooLarge("file", f"expected a recording of at most {MAX_FILE_BYTES} bytes, got {len(recording)}")
    voice = await add_voice(
        backend.voices,
        backend.upstreams,
        tenant,
        voice_id=texts["voice_id"],
        display_name=texts["name"],
        audio_file=recording,
        transcript=texts["transcript"],
        consent=texts["consent"],
    )
    return JSONResponse(voice_object(voice), 201)


async def list_voices(request: Request) -> JSONResponse:
    """GET: a page of voices in order of their ids: at most `limit` of those whose ids follow `after`."""
    backend, tenant = caller(request)
    limit, after = request.query_params.get("limit", str(DEFAULT_PAGE_SIZE)), request.query_params.get("after", "")
    if not (limit.isdecimal() and 1 <= int(limit) <= MAX_PAGE_SIZE):
        raise BadParameter("limit", f"expected a limit of 1 to {MAX_PAGE_SIZE}, got {limit[:20]!r}")
    if after:
        check_voice_id(after)
    voices, more = await backend.voices.page(tenant, after=after, size=int(limit))
    data = [voice_object(voice) for voice in voices]
    ids = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return JSONResponse({"object": "list", "data": data, "has_more": more, **ids})


async def get_voice(request: Request) -> JSONResponse:
    """GET: one voice."""
    backend, tenant = caller(request)
    return JSONResponse(voice_object(await backend.voices.get(tenant, request.path_params["voice_id"])))


async def delete_voice(request: Request) -> JSONResponse:
    """DELETE: delete a voice for good."""
    backend, tenant = caller(request)
    voice_id = request.path_params["voice_id"]
    await backend.voices.delete(tenant, voice_id)
    return JSONResponse({"id": voice_id, "object": "voice.deleted", "deleted": True})


def voice_object(voice: Voice) -> dict[str, Any]:
    """Return a voice as JSON."""
    return {
        "id": voice.voice_id,
        "object": "voice",
        "name": voice.display_name,
        "transcript": voice.transcript,
        "consent": voice.consent,
        "duration_s": round(voice.duration_s, 3),
        "created_at": int(voice.created),
    }
