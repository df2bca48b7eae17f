"""/v1/models and /v1/audio/models: list the one model."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.api.catalog import MODEL
from gateway.conversation.backend import Backend
from gateway.pipeline.prompt_size import max_prompt_tokens
from services.common.errors import NotFound


async def list_models(request: Request) -> JSONResponse:
    """GET: all models."""
    return JSONResponse({"object": "list", "data": [_model(request)]})


async def list_audio_models(request: Request) -> JSONResponse:
    """GET: all models, for programs with a picker. `data` has OpenAI's form, `models` that of Open WebUI."""
    models = [{"id": MODEL, "name": MODEL}]
    return JSONResponse({"object": "list", "data": [_model(request)], "models": models})


async def get_model(request: Request) -> JSONResponse:
    """GET: one model."""
    if request.path_params["model"] != MODEL:
        raise NotFound(f"no model {request.path_params['model'][:80]!r}: there is {MODEL!r}")
    return JSONResponse(_model(request))


def _model(request: Request) -> dict[str, Any]:
    """The `model` object. `card` and `limits` are extensions."""
    backend: Backend = request.app.state.backend
    settings = backend.settings
    return {
        "id": MODEL,
        "object": "model",
        "created": 1_767_225_600,
        "owned_by": "flashlabs",
        "card": _card(backend),
        "limits": {
            "max_input_s": settings.max_input_s,
            "max_input_chars": settings.max_input_chars,
            "max_prompt_chars": settings.max_prompt_chars,
            "max_prompt_tokens": max_prompt_tokens(backend.upstreams.reasoner) or None,
        },
        "transcribes": settings.transcribe,
    }


def _card(backend: Backend) -> dict[str, Any] | None:
    """What the checkpoint says of itself. None: it has no card, or no replica that tells was seen yet."""
    card = backend.card
    if card is None:
        return None
    return {
        "summary": card.summary,
        "topics": list(card.topics),
        "examples": list(card.examples),
        "voices": card.voices,
        "preview": card.preview,
        "closed_domain": bool(card.sentences or card.words),
    }
