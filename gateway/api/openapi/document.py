"""The OpenAPI 3.1 description of the HTTP API, made from the pydantic models that check the requests."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.api.openai.audio.speech import SpeechRequest
from gateway.api.openai.audio.transcriptions import TranscriptionRequest
from gateway.api.openai.chat.request import ChatRequest
from gateway.api.openai.responses.request import ResponsesRequest
from gateway.api.openapi import schemas
from gateway.api.openapi.paths import paths
from gateway.api.realtime.session.client_secrets import ClientSecretRequest


@cache
def openapi() -> dict[str, Any]:
    """Return the description."""
    _, models = models_json_schema(
        [
            (ChatRequest, "validation"),
            (ResponsesRequest, "validation"),
            (SpeechRequest, "validation"),
            (TranscriptionRequest, "validation"),
            (ClientSecretRequest, "validation"),
        ],
        ref_template=schemas.REF + "{model}",
    )
    transcription = models["$defs"]["TranscriptionRequest"]
    transcription["properties"] = {"file": schemas.RECORDING, **transcription["properties"]}
    transcription["required"] = ["file"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chroma-voice",
            "version": "1",
            "description": "Spoken conversations with FlashLabs Chroma 1.0, for OpenAI's clients. "
            "For conversations in real time: OpenAI's Realtime API on the WebSocket /v1/realtime, or gRPC.",
        },
        "security": [{}, {"key": []}],
        "paths": paths(),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                **models["$defs"],
                "Voice": schemas.VOICE,
                "Consent": schemas.CONSENT_RECORD,
                "Error": schemas.ERROR,
                **schemas.AUDIO,
            },
        },
    }
