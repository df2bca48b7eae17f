"""/v1/sessions: reads and deletes the stored session of a conversation. /v1/tenant: erases all data of a tenant."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from chroma.v1.dialogue_pb2 import SPEAKER_USER, Entry
from gateway.api.auth import http_caller
from gateway.store.sessions import Session


async def get_session(request: Request) -> JSONResponse:
    """GET: a session with what was said in it."""
    backend, caller = http_caller(request)
    session = await backend.sessions.load(caller.tenant, request.path_params["session_id"])
    return JSONResponse(session_object(session))


async def delete_session(request: Request) -> JSONResponse:
    """DELETE: delete a session, its turns and their audio."""
    backend, caller = http_caller(request)
    session_id = request.path_params["session_id"]
    erasure = await backend.eraser.session(caller, session_id)
    deleted = {"id": session_id, "object": "session.deleted", "deleted": True, "erasure": asdict(erasure)}
    return JSONResponse(deleted)


async def erase_tenant(request: Request) -> JSONResponse:
    """DELETE: erase all data of the caller's tenant but its consents."""
    backend, caller = http_caller(request)
    erased = await backend.eraser.tenant(caller)
    return JSONResponse({"id": caller.tenant, "object": "tenant.erased", "deleted": True, **asdict(erased)})


def _calls(entry: Entry) -> dict[str, Any]:
    """The tool calls of a reply, each with its result. Empty for a reply without any."""
    outputs = {result.call_id: result.output for result in entry.tool_results}
    calls = [
        {
            "call_id": call.call_id,
            "name": call.name,
            "arguments": call.arguments,
            "output": outputs.get(call.call_id),
        }
        for call in entry.tool_calls
    ]
    return {"tool_calls": calls} if calls else {}


def session_object(session: Session) -> dict[str, Any]:
    """Return a session as JSON."""
    items = [
        {
            "turn_id": entry.turn_id,
            "role": "user" if entry.speaker == SPEAKER_USER else "assistant",
            "text": entry.text,
            "heard_text": entry.heard_text,
            "audio_seconds": round(entry.audio_s, 3),
            **_calls(entry),
        }
        for turn in session.turns
        for entry in turn.entries()
    ]
    return {
        "id": session.session_id,
        "object": "session",
        "voice": session.config.voice_id,
        "instructions": session.config.system_prompt,
        "items": items,
        "dropped_turns": session.dropped_turns,
        "created_at": int(session.created),
        "expires_at": int(session.expires),
    }
