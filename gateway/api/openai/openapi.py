"""The OpenAPI 3.1 description of the HTTP API, made from the pydantic models that check the requests."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.api.errors import STATUSES
from gateway.api.openai.chat_request import ChatRequest
from gateway.api.openai.speech import SpeechRequest
from gateway.audio.write import CONTENT_TYPES
from gateway.store.voices import MAX_PAGE_SIZE

_REF = "#/components/schemas/"


@cache
def openapi() -> dict[str, Any]:
    """Return the description."""
    _, schemas = models_json_schema(
        [(ChatRequest, "validation"), (SpeechRequest, "validation")], ref_template=_REF + "{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chroma-voice",
            "version": "1",
            "description": "Spoken conversations with FlashLabs Chroma 1.0, for OpenAI's clients. "
            "For conversations in real time: OpenAI's Realtime API on the WebSocket /v1/realtime, or gRPC.",
        },
        "security": [{}, {"key": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**schemas["$defs"], "Voice": _VOICE, "Error": _ERROR},
        },
    }


def _paths() -> dict[str, Any]:
    voice_id = {"name": "voice_id", "in": "path", "required": True, "schema": {"type": "string"}}
    voice = _json("The voice.", {"$ref": _REF + "Voice"})
    streams = {"text/event-stream": {"schema": {"type": "string"}}}
    files = {
        content_type: {"schema": {"type": "string", "format": "binary"}} for content_type in CONTENT_TYPES.values()
    }
    chat = _json("The reply; with `stream`, server-sent events that end with `[DONE]`.", {"type": "object"})
    chat["content"] |= streams
    return {
        "/v1/chat/completions": {
            "post": _operation(
                "Answer a conversation",
                "Takes speech and text, returns the next reply: spoken if `modalities` or `audio` ask for speech.",
                {"200": chat},
                _body("ChatRequest"),
            )
        },
        "/v1/audio/speech": {
            "post": _operation(
                "Speak a text",
                "The file is streamed while it is made.",
                {"200": {"description": "The audio file.", "content": files | streams}},
                _body("SpeechRequest"),
            )
        },
        "/v1/models": {"get": _operation("List the models", "", {"200": _json("The models.", {"type": "object"})})},
        "/v1/voices": {
            "get": _operation(
                "List the voices",
                "In order of their ids.",
                {"200": _json("A page of voices.", _VOICES)},
                parameters=[
                    {
                        "name": "limit",
                        "in": "query",
                        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE},
                    },
                    {"name": "after", "in": "query", "schema": {"type": "string"}},
                ],
            ),
            "post": _operation("Enrol a voice", _CONSENT, {"201": voice}, _FORM),
        },
        "/v1/voices/{voice_id}": {
            "get": _operation("Read a voice", "", {"200": voice}, parameters=[voice_id]),
            "delete": _operation(
                "Delete a voice for good",
                "",
                {"200": _json("It is deleted.", {"type": "object"})},
                parameters=[voice_id],
            ),
        },
        "/v1/realtime": {
            "get": _operation(
                "Have a conversation in real time",
                "A WebSocket for OpenAI's Realtime API. `session_id` continues a session.",
                {"101": {"description": "The WebSocket is open."}},
                parameters=[
                    {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("model", "session_id")
                ],
            )
        },
        "/healthz": {
            "get": _operation(
                "Tell whether the gateway serves", "503 if it does not.", {"200": _json("It serves.", {})}
            )
        },
    }


def _operation(
    summary: str,
    description: str,
    responses: dict[str, Any],
    body: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    statuses = [f"{status} {name}" for name, status in STATUSES.items()]
    codes = ", ".join([*statuses, "413 (a body or a file above its limit)"])
    failed = _json(f"What was wrong: {codes}.", {"$ref": _REF + "Error"})
    operation: dict[str, Any] = {"summary": summary, "responses": {**responses, "default": failed}}
    if description:
        operation["description"] = description
    if body:
        operation["requestBody"] = body
    if parameters:
        operation["parameters"] = parameters
    return operation


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _body(name: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"$ref": _REF + name}}}}


_CONSENT = "A voice belongs to a person: state in `consent` who agreed to its cloning, and how."

_TEXT = {"type": "string"}
_VOICE = {
    "type": "object",
    "required": ["id", "object", "name", "transcript", "consent", "duration_s", "created_at"],
    "properties": {
        "id": _TEXT,
        "object": {"const": "voice"},
        "name": _TEXT,
        "transcript": _TEXT,
        "consent": _TEXT,
        "duration_s": {"type": "number", "description": "Seconds of the recording."},
        "created_at": {"type": "integer", "description": "Seconds since the epoch."},
    },
}
_VOICES = {
    "type": "object",
    "properties": {"data": {"type": "array", "items": {"$ref": _REF + "Voice"}}, "has_more": {"type": "boolean"}},
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What was expected and what came, for people."},
                "type": _TEXT,
                "param": {"type": ["string", "null"], "description": "The field that is wrong."},
                "code": {"type": ["string", "null"], "description": "A name of the problem for programs."},
            },
        }
    },
}
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "transcript", "consent"],
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "WAV, FLAC, OGG or MP3, 1 to 30 s, at most 16 MiB.",
                    },
                    "transcript": {"type": "string", "description": "The words of the recording, exactly."},
                    "consent": {"type": "string", "description": "Who agreed to the cloning of this voice, and how."},
                    "voice_id": {"type": "string", "description": "Empty: the server makes an id."},
                    "name": {"type": "string", "description": "A name for people. Empty: the id."},
                },
            }
        }
    },
}
