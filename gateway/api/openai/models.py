"""/v1/models and /v1/audio/models: list the one model."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.api.catalog import MODEL
from services.common.errors import NotFound

_OBJECT: dict[str, Any] = {"id": MODEL, "object": "model", "created": 1_767_225_600, "owned_by": "flashlabs"}


async def list_models(request: Request) -> JSONResponse:
    """GET: all models."""
    return JSONResponse({"object": "list", "data": [_OBJECT]})


async def list_audio_models(request: Request) -> JSONResponse:
    """GET: all models, for programs with a picker. `data` has OpenAI's form, `models` that of Open WebUI."""
    models = [{"id": MODEL, "name": MODEL}]
    return JSONResponse({"object": "list", "data": [_OBJECT], "models": models})


async def get_model(request: Request) -> JSONResponse:
    """GET: one model."""
    if request.path_params["model"] != MODEL:
        raise NotFound(f"no model {request.path_params['model'][:80]!r}: there is {MODEL!r}")
    return JSONResponse(_OBJECT)
