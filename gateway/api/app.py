"""The HTTP application: the routes of the API, of the web page and of health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp

from gateway.access.caller import Scope
from gateway.access.identity import Identity
from gateway.api import errors
from gateway.api.auth import allow
from gateway.api.http.bodies import BodyLimit, BodyType
from gateway.api.http.browsers import PageToken, SiteCheck
from gateway.api.http.headers import SecurityHeaders
from gateway.api.http.rate_limits import RATE_LIMIT_HEADERS, RateLimitHeaders
from gateway.api.http.traces import Traces
from gateway.api.methods import other_methods
from gateway.api.openai.audio.speech import create_speech
from gateway.api.openai.audio.transcriptions import create_transcription
from gateway.api.openai.chat.chat import create_chat_completion
from gateway.api.openai.ignored import IGNORED_HEADER
from gateway.api.openai.models import get_model, list_audio_models, list_models
from gateway.api.openai.responses.responses import create_response
from gateway.api.openai.sessions import delete_session, erase_tenant, get_session
from gateway.api.openai.usage import get_usage
from gateway.api.openai.voices.audio_voices import (
    create_audio_voice,
    create_voice_consent,
    delete_audio_voice,
    delete_voice_consent,
    get_voice_consent,
    list_audio_voices,
    list_voice_consents,
)
from gateway.api.openai.voices.consents import get_consent, list_consents, revoke_consent
from gateway.api.openai.voices.voices import create_voice, delete_voice, get_voice, list_voices
from gateway.api.openapi.document import openapi
from gateway.api.page import docs, page
from gateway.api.realtime.route import realtime
from gateway.api.realtime.session.client_secrets import create_client_secret
from gateway.api.twilio.route import telephone
from gateway.api.webrtc.calls import Calls
from gateway.api.webrtc.route import answer_telephone, create_beta_call, create_call, hang_up
from gateway.audio.provenance import ContentCredentials
from gateway.conversation.backend import Backend
from gateway.processes.shared_counts import BODY_BYTES, SharedCounts
from gateway.settings import GatewaySettings
from gateway.store.replies import Replies
from services.common.errors import ChromaError

_UPLOADS = ("/v1/audio/transcriptions", "/v1/audio/voice_consents", "/v1/audio/voices", "/v1/voices")
"""The paths whose bodies are multipart forms."""

_OFFERS = ("/v1/realtime", "/v1/realtime/calls")
"""The paths whose bodies are offers of WebRTC calls, alone or in a multipart form."""

_COUNTED = ("/v1/audio/speech", "/v1/audio/transcriptions", "/v1/chat/completions", "/v1/responses")
"""The paths whose answers tell what is left of the caller's limits."""

_EXPOSED_HEADERS = (
    "location",
    "retry-after",
    "retry-after-ms",
    "www-authenticate",
    IGNORED_HEADER,
    *RATE_LIMIT_HEADERS,
)
"""The headers that web pages of allowed origins may read."""


def http_app(
    backend: Backend,
    replies: Replies,
    identity: Identity,
    draining: asyncio.Event,
    is_serving: Callable[[], bool],
    waiting_for: Callable[[], list[str]] = list,
    closing: asyncio.Event | None = None,
    counts: SharedCounts | None = None,
) -> Starlette:
    """Build the application. `is_serving` returns whether all upstream services serve, `waiting_for` what is missing,
    in fixed words. `closing` is set when open conversations have to end; unset, they end when `draining` is set.
    `counts`: what limits of several processes count.

    `allow` names the scopes of each route. Routes without it are open to everybody: health, the page, and the public
    description of the API.
    """
    anyone, talk, voices, listing = allow(), allow(Scope.TALK), allow(Scope.VOICES), allow(Scope.TALK, Scope.VOICES)
    admin = allow(Scope.ADMIN)

    async def health(request: Request) -> JSONResponse:
        serving = is_serving() and not draining.is_set()
        status = "draining" if draining.is_set() else "healthy" if serving else "starting"
        body = {"status": status, "model_loaded": serving, "waiting_for": waiting_for()}
        return JSONResponse(body, 200 if serving else 503)

    routes = [
        WebSocketRoute("/v1/realtime", talk(realtime)),
        WebSocketRoute("/v1/twilio/media-stream", telephone),
        Route("/v1/realtime", talk(create_beta_call), methods=["POST"]),
        Route("/v1/realtime/calls", talk(create_call), methods=["POST"]),
        Route("/v1/realtime/calls/{call_id}/hangup", talk(hang_up), methods=["POST"]),
        Route("/v1/realtime/calls/{call_id}/accept", talk(answer_telephone), methods=["POST"]),
        Route("/v1/realtime/calls/{call_id}/reject", talk(answer_telephone), methods=["POST"]),
        Route("/v1/realtime/calls/{call_id}/refer", talk(answer_telephone), methods=["POST"]),
        Route("/v1/realtime/client_secrets", talk(create_client_secret), methods=["POST"]),
        Route("/v1/chat/completions", talk(create_chat_completion), methods=["POST"]),
        Route("/v1/responses", talk(create_response), methods=["POST"]),
        Route("/v1/audio/speech", talk(create_speech), methods=["POST"]),
        Route("/v1/audio/transcriptions", talk(create_transcription), methods=["POST"]),
        Route("/v1/audio/models", anyone(list_audio_models)),
        Route("/v1/audio/voices", listing(list_audio_voices)),
        Route("/v1/audio/voices", voices(create_audio_voice), methods=["POST"]),
        Route("/v1/audio/voices/{voice_id}", voices(delete_audio_voice), methods=["DELETE"]),
        Route("/v1/audio/voice_consents", voices(list_voice_consents)),
        Route("/v1/audio/voice_consents", voices(create_voice_consent), methods=["POST"]),
        Route("/v1/audio/voice_consents/{consent_id}", voices(get_voice_consent)),
        Route("/v1/audio/voice_consents/{consent_id}", voices(delete_voice_consent), methods=["DELETE"]),
        Route("/v1/models", anyone(list_models)),
        Route("/v1/models/{model}", anyone(get_model)),
        Route("/v1/voices", listing(list_voices)),
        Route("/v1/voices", voices(create_voice), methods=["POST"]),
        Route("/v1/voices/{voice_id}", listing(get_voice)),
        Route("/v1/voices/{voice_id}", voices(delete_voice), methods=["DELETE"]),
        Route("/v1/consents", voices(list_consents)),
        Route("/v1/consents/{consent_id}", voices(get_consent)),
        Route("/v1/consents/{consent_id}/revoke", voices(revoke_consent), methods=["POST"]),
        Route("/v1/sessions/{session_id}", talk(get_session)),
        Route("/v1/sessions/{session_id}", talk(delete_session), methods=["DELETE"]),
        Route("/v1/usage", allow(Scope.TALK, Scope.ADMIN)(get_usage)),
        Route("/v1/tenant", admin(erase_tenant), methods=["DELETE"]),
        Route("/healthz", health),
        Route("/health", health),
        Route("/openapi.json", _openapi),
        Route("/docs", docs),
    ]
    settings = backend.settings
    total_bytes = max(settings.http_body_bytes, 2 * settings.max_message_bytes)
    held = (counts or SharedCounts.alone())[BODY_BYTES]
    middleware = [
        Middleware(SiteCheck, settings=settings),
        Middleware(
            CORSMiddleware,
            allow_origins=settings.http_allowed_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        ),
        Middleware(ServerErrorMiddleware, handler=errors.on_unexpected_error),  # within CORS: pages may read it
        Middleware(Traces),
        Middleware(BodyType, uploads=_UPLOADS, routes=routes, offers=_OFFERS),
        Middleware(RateLimitHeaders, usage=backend.usage, paths=_COUNTED),
        Middleware(BodyLimit, max_bytes=settings.max_message_bytes, total_bytes=total_bytes, count=held),
    ]
    token = settings.page_token.get_secret_value()
    if identity.is_required:
        token = ""
    if token:
        middleware.insert(2, Middleware(PageToken, token=token))
    app = _Application(
        routes=[*routes, *other_methods(routes), Mount("/", page(token))],
        middleware=middleware,
        exception_handlers={
            ChromaError: errors.on_domain_error,
            HTTPException: errors.on_http_error,
            ClientDisconnect: errors.on_hang_up,
        },
    )
    credentials = None
    if settings.c2pa_cert is not None and settings.c2pa_key is not None:
        credentials = ContentCredentials(settings.c2pa_cert, settings.c2pa_key)
    app.state.credentials = credentials
    app.state.backend, app.state.replies, app.state.identity = backend, replies, identity
    app.state.draining = draining
    app.state.calls = Calls(backend, draining, closing=closing)
    app.state.closing = closing or draining
    return app


async def _openapi(request: Request) -> JSONResponse:
    return JSONResponse(openapi())


class _Application(Starlette):
    """Starlette with security headers also on the responses of its own error handling, status 500."""

    def build_middleware_stack(self) -> ASGIApp:
        settings: GatewaySettings = self.state.backend.settings
        return SecurityHeaders(super().build_middleware_stack(), behind_tls=settings.http_behind_tls)
