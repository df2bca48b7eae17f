"""The OpenAPI 3.1 description of the HTTP API, made from the pydantic models that check the requests."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.api.errors import STATUSES
from gateway.api.openai.audio.speech import SpeechRequest
from gateway.api.openai.audio.transcriptions import TranscriptionRequest
from gateway.api.openai.chat.request import ChatRequest
from gateway.api.openai.openapi import schemas
from gateway.api.openai.responses.request import ResponsesRequest
from gateway.audio.write import CONTENT_TYPES


@cache
def openapi() -> dict[str, Any]:
    """Return the description."""
    _, models = models_json_schema(
        [
            (ChatRequest, "validation"),
            (ResponsesRequest, "validation"),
            (SpeechRequest, "validation"),
            (TranscriptionRequest, "validation"),
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
        "paths": _paths(),
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


def _paths() -> dict[str, Any]:
    voice_id = _in_path("voice_id")
    consent = _json("The consent.", {"$ref": schemas.REF + "Consent"})
    deleted = _json("It is deleted.", schemas.DELETED)
    voice = _json("The voice.", {"$ref": schemas.REF + "Voice"})
    streams = {"text/event-stream": {"schema": {"type": "string"}}}
    files = {
        content_type: {"schema": {"type": "string", "format": "binary"}} for content_type in CONTENT_TYPES.values()
    }
    chat = _json("The reply; with `stream`, server-sent events that end with `[DONE]`.", {"type": "object"})
    chat["content"] |= streams
    recorded = _json("The consent.", {"$ref": schemas.REF + "VoiceConsent"})
    transcript = _json("The transcript; with `stream`, server-sent events.", schemas.TRANSCRIPT)
    transcript["content"] |= {"text/plain": {"schema": schemas.TEXT}} | streams
    answer = {"description": "The answer of the call.", "content": {"application/sdp": {"schema": schemas.TEXT}}}
    response = _json("The response; with `stream`, server-sent events.", {"type": "object"})
    response["content"] |= streams
    return {
        "/v1/chat/completions": {
            "post": _operation(
                "Answer a conversation",
                "Takes speech and text, returns the next reply: spoken if `modalities` or `audio` ask for speech.",
                {"200": chat},
                _body("ChatRequest"),
            )
        },
        "/v1/responses": {
            "post": _operation(
                "Answer a conversation with a text",
                "The part of OpenAI's Responses API that a client needs for texts.",
                {"200": response},
                _body("ResponsesRequest"),
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
        "/v1/audio/transcriptions": {
            "post": _operation(
                "Write a recording down",
                "The reasoner's own transcript. The operator must allow it (`CHROMA_TRANSCRIBE`); else 403.",
                {"200": transcript},
                _form_of("TranscriptionRequest"),
            )
        },
        "/v1/audio/models": {
            "get": _operation(
                "List the models for a picker",
                "`data` has OpenAI's form, `models` that of Open WebUI.",
                {"200": _json("The models.", {"type": "object"})},
            )
        },
        "/v1/audio/voices": {
            "get": _operation(
                "List the voices for a picker",
                "Up to 1,000. `data` has OpenAI's form, `voices` that of Open WebUI.",
                {"200": _json("The voices.", _list_of("AudioVoice"))},
                parameters=schemas.PAGE,
            ),
            "post": _operation(
                "Enrol a voice, in OpenAI's form",
                schemas.CONSENT,
                {"200": _json("The voice.", {"$ref": schemas.REF + "AudioVoice"})},
                _form(schemas.AUDIO_VOICE_FORM, "name", "audio_sample", "consent"),
                [schemas.IDEMPOTENCY_KEY],
            ),
        },
        "/v1/audio/voices/{voice_id}": {
            "delete": _operation("Delete a voice for good", "", {"200": deleted}, parameters=[voice_id])
        },
        "/v1/audio/voice_consents": {
            "get": _operation(
                "List the recorded consents that hold",
                "In order of their ids. All consents are under /v1/consents.",
                {"200": _json("A page of consents.", _list_of("VoiceConsent"))},
                parameters=schemas.PAGE,
            ),
            "post": _operation(
                "Record a consent",
                "The recording itself is not kept: the consent has its SHA-256.",
                {"200": recorded},
                _form(schemas.VOICE_CONSENT_FORM, "name", "language", "recording"),
            ),
        },
        "/v1/audio/voice_consents/{consent_id}": {
            "get": _operation("Read a recorded consent", "", {"200": recorded}, parameters=[_in_path("consent_id")]),
            "delete": _operation(
                "Revoke a recorded consent",
                "Erases the voices that were enrolled under it. Its record stays in /v1/consents, marked as revoked.",
                {"200": deleted},
                parameters=[_in_path("consent_id")],
            ),
        },
        "/v1/models": {"get": _operation("List the models", "", {"200": _json("The models.", {"type": "object"})})},
        "/v1/voices": {
            "get": _operation(
                "List the voices",
                "In order of their ids.",
                {"200": _json("A page of voices.", _list_of("Voice"))},
                parameters=schemas.PAGE,
            ),
            "post": _operation(
                "Enrol a voice", schemas.CONSENT, {"201": voice}, schemas.FORM, [schemas.IDEMPOTENCY_KEY]
            ),
        },
        "/v1/voices/{voice_id}": {
            "get": _operation("Read a voice", "", {"200": voice}, parameters=[voice_id]),
            "delete": _operation(
                "Delete a voice for good",
                "",
                {"200": deleted},
                parameters=[voice_id],
            ),
        },
        "/v1/consents": {
            "get": _operation(
                "List the consents",
                "In order of their ids.",
                {"200": _json("A page of consents.", _list_of("Consent"))},
                parameters=schemas.PAGE,
            )
        },
        "/v1/consents/{consent_id}": {
            "get": _operation("Read a consent", "", {"200": consent}, parameters=[_in_path("consent_id")])
        },
        "/v1/consents/{consent_id}/revoke": {
            "post": _operation(
                "Revoke a consent",
                "Erases all its voices. The consent stays, marked as revoked.",
                {"200": consent},
                parameters=[_in_path("consent_id")],
            )
        },
        "/v1/sessions/{session_id}": {
            "get": _operation(
                "Read the session of a conversation",
                "",
                {"200": _json("The session with what was said in it.", {"type": "object"})},
                parameters=[_in_path("session_id")],
            ),
            "delete": _operation(
                "Delete a session, its turns and their audio",
                "",
                {"200": deleted},
                parameters=[_in_path("session_id")],
            ),
        },
        "/v1/usage": {
            "get": _operation(
                "Read what is used of the limits",
                "Of the caller's key; with a key of scope `admin`, of all keys of its tenant.",
                {"200": _json("The use, and the limits.", {"type": "object"})},
            )
        },
        "/v1/tenant": {
            "delete": _operation(
                "Erase all data of the caller's tenant",
                "Needs a key with the scope `admin`. Consents stay as evidence.",
                {"200": deleted},
            )
        },
        **_calls(),
        "/v1/twilio/media-stream": {
            "get": _operation(
                "Take a telephone call",
                "A WebSocket for Twilio's media streams. The key comes in the parameter `key` of the `start` message.",
                {"101": {"description": "The WebSocket is open."}},
            )
        },
        "/v1/realtime": {
            "post": _operation(
                "Begin a WebRTC call, as OpenAI's beta had it",
                "",
                {"201": answer},
                {"content": {"application/sdp": {"schema": schemas.TEXT}}},
            ),
            "get": _operation(
                "Have a conversation in real time",
                "A WebSocket for OpenAI's Realtime API. `session_id` continues a session.",
                {"101": {"description": "The WebSocket is open."}},
                parameters=[
                    {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("model", "session_id")
                ],
            ),
        },
        "/v1/realtime/client_secrets": {
            "post": _operation(
                "Make a client secret",
                "A credential for a browser or a device. It may talk, for the tenant of the key that asks, until it "
                "expires. Send it like a key.",
                {"200": _json("The secret.", schemas.CLIENT_SECRET)},
                {"content": {"application/json": {"schema": schemas.CLIENT_SECRET_REQUEST}}},
            )
        },
        "/healthz": {
            "get": _operation(
                "Tell whether the gateway serves", "503 if it does not.", {"200": _json("It serves.", {})}
            )
        },
    }


def _calls() -> dict[str, Any]:
    sdp = {"application/sdp": {"schema": schemas.TEXT}}
    answer = {"description": "The answer. `Location` names the call.", "content": sdp}
    offer = {"sdp": schemas.TEXT, "session": {"type": "string", "description": "Settings of the session, as JSON."}}
    bodies = sdp | _form(offer, "sdp")["content"]
    call = [_in_path("call_id")]
    none = {"200": {"description": "The call has ended."}}
    path = "/v1/realtime/calls/{call_id}"
    telephone = "There are no telephone calls over SIP: the answer is 404."
    return {
        "/v1/realtime/calls": {
            "post": _operation(
                "Begin a WebRTC call", "The body is the offer.", {"201": answer}, {"required": True, "content": bodies}
            )
        },
        f"{path}/hangup": {"post": _operation("End a WebRTC call", "", none, parameters=call)},
        **{
            f"{path}/{name}": {"post": _operation(f"{name.title()} a telephone call", telephone, {}, parameters=call)}
            for name in ("accept", "reject", "refer")
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
    failed = _json(f"What was wrong: {codes}.", {"$ref": schemas.REF + "Error"})
    operation: dict[str, Any] = {"summary": summary, "responses": {**responses, "default": failed}}
    if description:
        operation["description"] = description
    if body:
        operation["requestBody"] = body
    if parameters:
        operation["parameters"] = parameters
    return operation


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _list_of(name: str) -> dict[str, Any]:
    items = {"type": "array", "items": {"$ref": schemas.REF + name}}
    return {"type": "object", "properties": {"data": items, "has_more": {"type": "boolean"}}}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _body(name: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"$ref": schemas.REF + name}}}}


def _form_of(name: str) -> dict[str, Any]:
    return {"required": True, "content": {"multipart/form-data": {"schema": {"$ref": schemas.REF + name}}}}


def _form(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    schema = {"type": "object", "required": [*required], "properties": properties}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
