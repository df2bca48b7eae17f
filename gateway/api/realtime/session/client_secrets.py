"""POST /v1/realtime/client_secrets: makes a short-lived credential for a browser or a device, as OpenAI's API does."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.audit import DONE
from gateway.access.caller import Caller
from gateway.access.client_secrets import DEFAULT_TTL_S, MAX_TTL_S, MIN_TTL_S, NewSecret
from gateway.access.identity import Identity
from gateway.access.limits import LimitName
from gateway.api.auth import http_caller
from gateway.api.catalog import MODEL, voice_of_field
from gateway.api.client_json import parse_request
from gateway.api.errors import BadParameter
from gateway.api.prompt_size import check_prompt_size
from gateway.api.realtime.session.session import RealtimeSession
from gateway.api.realtime.session.update import SessionIn
from gateway.conversation.backend import Backend
from services.common.errors import ChromaError

_MAX_SESSION_CHARS = 64 * 1024
"""Most characters of the session settings as JSON: the store keeps them as long as the secret."""
_SECRET_BYTES = 300
"""What the store keeps of a secret without session settings."""


class ExpiresAfter(BaseModel):
    """When the secret expires."""

    model_config = ConfigDict(extra="forbid")
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[
        int, Field(ge=MIN_TTL_S, le=MAX_TTL_S, description="Seconds from now. Open connections live on.")
    ] = DEFAULT_TTL_S


class ClientSecretRequest(BaseModel):
    """A client secret to make."""

    model_config = ConfigDict(extra="forbid")
    expires_after: ExpiresAfter = Field(default_factory=ExpiresAfter)
    session: SessionIn = Field(
        default_factory=SessionIn,
        description="Settings with which a Realtime connection begins that is opened with the secret.",
    )


async def create_client_secret(request: Request) -> JSONResponse:
    """POST: make a client secret of the caller's tenant."""
    backend, caller = http_caller(request)
    identity: Identity = request.app.state.identity
    wanted = await parse_request(await request.body() or b"{}", ClientSecretRequest)
    settings = wanted.session.model_dump(mode="json", exclude_unset=True)
    size = len(json.dumps(settings))
    if size > _MAX_SESSION_CHARS:
        raise BadParameter("session", f"session: expected at most {_MAX_SESSION_CHARS} characters of JSON")
    # The session begins with the connection, so its id names nothing that is stored.
    can_transcribe, max_chars = backend.settings.transcribe, backend.settings.max_prompt_chars
    session_id, model = f"sess_{secrets.token_hex(12)}", wanted.session.model or MODEL
    session = RealtimeSession(
        session_id, model, "", can_transcribe=can_transcribe, can_use_tools=backend.renders_tools
    ).updated(wanted.session)
    tools = session.tools.message(max_chars=max_chars, where="session")
    config = SessionConfig(system_prompt=session.instructions, tools=tools)
    await check_prompt_size(backend, config, "session.instructions", "session.tools")
    param = f"session.{wanted.session.voice_field}"
    session = replace(session, voice=await voice_of_field(backend, caller.tenant, session.voice, param))
    secret = await _create(backend, identity, caller, settings, wanted.expires_after.seconds, size + _SECRET_BYTES)
    backend.audit.note("client_secret.create", DONE, caller, ttl_s=wanted.expires_after.seconds)
    body = {
        "value": secret.value,
        "expires_at": secret.expires_at,
        "session": {**session.to_dict(limit_s=0.0), "expires_at": 0},
    }
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


async def _create(
    backend: Backend, identity: Identity, caller: Caller, settings: dict[str, Any], ttl_s: int, size: int
) -> NewSecret:
    """Make a secret that counts against the limits of its tenant while it lives."""
    item = secrets.token_hex(12)
    await backend.usage.hold(caller, LimitName.CLIENT_SECRETS, item, size, ttl_s=ttl_s)
    try:
        return await identity.client_secrets.create(caller, settings, ttl_s)
    except ChromaError:
        await backend.usage.let_go(caller.tenant, LimitName.CLIENT_SECRETS, item)
        raise
