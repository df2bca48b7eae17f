"""POST /v1/realtime/calls: a WebRTC call from its offer to its answer, as OpenAI's API has it."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.audit import DONE
from gateway.api.auth import http_caller, session_settings
from gateway.api.client_json import parse_json
from gateway.api.errors import BadParameter, TooLarge
from gateway.api.field_errors import fit
from gateway.api.http.bodies import stated_bytes
from gateway.api.realtime.session.update import SessionIn
from gateway.api.webrtc.calls import Asked, Calls
from gateway.api.webrtc.offer import MAX_SDP_BYTES, read_offer
from services.common.errors import NotFound

SDP = "application/sdp"
FORM = "multipart/form-data"

_MAX_SESSION_BYTES = 256 * 1024
_MAX_BODY_BYTES = MAX_SDP_BYTES + _MAX_SESSION_BYTES + 4_096


async def create_call(request: Request) -> Response:
    """POST: begin a call. The body is the offer, or a form with the offer as `sdp` and settings as `session`."""
    return await _create(request, beta=request.headers.get("openai-beta", "").startswith("realtime="))


async def create_beta_call(request: Request) -> Response:
    """POST /v1/realtime, as OpenAI's beta had it: the same with the beta's names of events."""
    return await _create(request, beta=True)


async def hang_up(request: Request) -> Response:
    """POST: end a call of the caller's tenant."""
    _, caller = http_caller(request)
    calls: Calls = request.app.state.calls
    await calls.hang_up(caller.tenant, request.path_params["call_id"])
    return Response(status_code=200)


async def answer_telephone(request: Request) -> Response:
    """POST: accept, reject or refer a telephone call over SIP, which the gateway has none of. Raises NotFound."""
    http_caller(request)
    raise NotFound("this gateway takes calls over WebRTC and Twilio's media streams, not over SIP")


async def _create(request: Request, *, beta: bool) -> Response:
    backend, caller = http_caller(request)
    calls: Calls = request.app.state.calls
    sdp, session = await _read(request)
    given = {**session_settings(request), **session}
    asked = Asked(read_offer(sdp), fit(given, SessionIn, "session"), request.query_params, beta)
    call_id, answer = await calls.open(caller, asked)
    backend.audit.note("call.create", DONE, caller, call=call_id)
    headers = {"Location": f"/v1/realtime/calls/{call_id}", "Cache-Control": "no-store"}
    return Response(answer, 201, headers, media_type=SDP)


async def _read(request: Request) -> tuple[str, dict[str, Any]]:
    """The offer and the settings in the body of a request."""
    if stated_bytes(request.headers) > _MAX_BODY_BYTES:
        raise TooLarge("sdp", f"expected an offer of at most {MAX_SDP_BYTES} bytes")
    session = b""
    if request.headers.get("content-type", "").lower().startswith(FORM):
        sdp, session = await _read_form(request)
    else:
        sdp = await request.body()
    if len(sdp) > MAX_SDP_BYTES:
        raise TooLarge("sdp", f"expected an offer of at most {MAX_SDP_BYTES} bytes, got {len(sdp)}")
    if len(session) > _MAX_SESSION_BYTES:
        raise TooLarge("session", f"expected settings of at most {_MAX_SESSION_BYTES} bytes, got {len(session)}")
    try:
        text = sdp.decode()
    except UnicodeDecodeError:
        raise BadParameter("sdp", "sdp: expected text in UTF-8") from None
    settings = await parse_json(session, "session") if session else {}
    if not isinstance(settings, dict):
        raise BadParameter("session", "session: expected a JSON object")
    return text, settings


async def _read_form(request: Request) -> tuple[bytes, bytes]:
    """The fields `sdp` and `session` of a form. Clients send them as texts, or as files with types of their own."""
    found: dict[str, bytes] = {}
    try:
        async with request.form(max_files=2, max_fields=2, max_part_size=_MAX_BODY_BYTES) as form:
            for name, value in form.multi_items():
                if name not in ("sdp", "session"):
                    raise BadParameter(name[:80], f"unknown field {name[:80]!r}", "unknown_parameter")
                found[name] = await value.read() if isinstance(value, UploadFile) else value.encode()
    except HTTPException as error:  # Starlette cannot parse the form
        raise BadParameter("body", str(error.detail)) from None
    if "sdp" not in found:
        raise BadParameter("sdp", "expected the offer in the field `sdp`", "missing_required_parameter")
    return found["sdp"], found.get("session", b"")
