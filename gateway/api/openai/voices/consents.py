"""/v1/consents: lists, reads and revokes the consents to the cloning of voices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.api.auth import http_caller
from gateway.api.openai.paging import list_object, page_of
from gateway.store.consents import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Consent, check_consent_id


async def list_consents(request: Request) -> JSONResponse:
    """GET: a page of consents in order of their ids: at most `limit` of those whose ids follow `after`."""
    backend, caller = http_caller(request)
    limit, after = page_of(request, MAX_PAGE_SIZE, DEFAULT_PAGE_SIZE)
    if after:
        check_consent_id(after)
    consents, more = await backend.voices.consents.page(caller.tenant, after=after, size=limit)
    return JSONResponse(list_object([consent_object(consent) for consent in consents], more))


async def get_consent(request: Request) -> JSONResponse:
    """GET: one consent."""
    backend, caller = http_caller(request)
    consent = await backend.voices.consents.get(caller.tenant, request.path_params["consent_id"])
    return JSONResponse(consent_object(consent))


async def revoke_consent(request: Request) -> JSONResponse:
    """POST: revoke a consent, which erases its voices."""
    backend, caller = http_caller(request)
    consent, erasure = await backend.eraser.consent(caller, request.path_params["consent_id"])
    return JSONResponse({**consent_object(consent), "erasure": asdict(erasure)})


def consent_object(consent: Consent) -> dict[str, Any]:
    """Return a consent as JSON."""
    voices = [
        {
            "id": voice.voice_id,
            "created_at": int(voice.created),
            "erased_at": int(voice.erased) if voice.erased else None,
        }
        for voice in consent.voices
    ]
    return {
        "id": consent.consent_id,
        "object": "consent",
        "subject": consent.subject,
        "words": consent.words,
        "recording_sha256": consent.recording_sha256,
        "tenant": consent.tenant,
        "key_id": consent.key_id,
        "created_at": int(consent.created),
        "revoked_at": int(consent.revoked) if consent.revoked else None,
        "revoked_by": consent.revoked_by or None,
        "voices": voices,
    }
