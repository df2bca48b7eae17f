"""The HTTP application: the routes of the API, of the web page and of health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute

from gateway.api import errors
from gateway.api.limits import BodyLimit
from gateway.api.openai.chat import create_chat_completion
from gateway.api.openai.models import get_model, list_models
from gateway.api.openai.openapi import openapi
from gateway.api.openai.speech import create_speech
from gateway.api.openai.voices import create_voice, delete_voice, get_voice, list_voices
from gateway.api.page import page
from gateway.api.realtime.route import realtime
from gateway.conversation.backend import Backend
from gateway.store.replies import Replies
from services.common.errors import ChromaError

_DOCS = Path(__file__).parent / "docs.html"


def http_app(backend: Backend, replies: Replies, draining: asyncio.Event, is_serving: Callable[[], bool]) -> Starlette:
    """Build the application. `is_serving` returns whether all upstream services serve."""

    async def health(request: Request) -> JSONResponse:
        serving = is_serving() and not draining.is_set()
        status = "draining" if draining.is_set() else "healthy" if serving else "starting"
        return JSONResponse({"status": status, "model_loaded": serving}, 200 if serving else 503)

    app = Starlette(
        routes=[
            WebSocketRoute("/v1/realtime", realtime),
            Route("/v1/chat/completions", create_chat_completion, methods=["POST"]),
            Route("/v1/audio/speech", create_speech, methods=["POST"]),
            Route("/v1/models", list_models),
            Route("/v1/models/{model}", get_model),
            Route("/v1/voices", list_voices),
            Route("/v1/voices", create_voice, methods=["POST"]),
            Route("/v1/voices/{voice_id}", get_voice),
            Route("/v1/voices/{voice_id}", delete_voice, methods=["DELETE"]),
            Route("/healthz", health),
            Route("/health", health),
            Route("/openapi.json", _openapi),
            Route("/docs", _docs),
            Mount("/", page()),
        ],
        middleware=[Middleware(BodyLimit, max_bytes=backend.settings.max_message_bytes)],
        exception_handlers={
            ChromaError: errors.on_domain_error,
            ValidationError: errors.on_validation_error,
            HTTPException: errors.on_http_error,
        },
    )
    app.add_exception_handler(Exception, errors.on_unexpected_error)
    app.state.backend, app.state.replies, app.state.draining = backend, replies, draining
    return app


async def _openapi(request: Request) -> JSONResponse:
    return JSONResponse(openapi())


async def _docs(request: Request) -> FileResponse:
    return FileResponse(_DOCS)
