"""The paths of the OpenAPI description: what each does, takes and answers."""

from __future__ import annotations

from typing import Any

from gateway.api.openapi import schemas
from gateway.api.openapi.operations import (
    form,
    form_of,
    in_path,
    json_answer,
    json_body,
    object_answer,
    operation,
    page_answer,
)
from gateway.audio.write import CONTENT_TYPES


def paths() -> dict[str, Any]:
    """Return the operations of each path."""
    voice_id = in_path("voice_id")
    consent = object_answer("The consent.", "Consent")
    deleted = json_answer("It is deleted.", schemas.DELETED)
    voice = object_answer("The voice.", "Voice")
    streams = {"text/event-stream": {"schema": {"type": "string"}}}
    files = {
        content_type: {"schema": {"type": "string", "format": "binary"}} for content_type in CONTENT_TYPES.values()
    }
    chat = json_answer("The reply; with `stream`, server-sent events that end with `[DONE]`.", {"type": "object"})
    chat["content"] |= streams
    recorded = object_answer("The consent.", "VoiceConsent")
    transcript = json_answer("The transcript; with `stream`, server-sent events.", schemas.TRANSCRIPT)
    transcript["content"] |= {"text/plain": {"schema": schemas.TEXT}} | streams
    answer = {"description": "The answer of the call.", "content": {"application/sdp": {"schema": schemas.TEXT}}}
    response = json_answer("The response; with `stream`, server-sent events.", {"type": "object"})
    response["content"] |= streams
    return {
        "/v1/chat/completions": {
            "post": operation(
                "Answer a conversation",
                "Takes speech and text, returns the next reply: spoken if `modalities` or `audio` ask for speech.",
                {"200": chat},
                json_body("ChatRequest"),
            )
        },
        "/v1/responses": {
            "post": operation(
                "Answer a conversation with a text",
                "The part of OpenAI's Responses API that a client needs for texts.",
                {"200": response},
                json_body("ResponsesRequest"),
            )
        },
        "/v1/audio/speech": {
            "post": operation(
                "Speak a text",
                "The file is streamed while it is made.",
                {"200": {"description": "The audio file.", "content": files | streams}},
                json_body("SpeechRequest"),
            )
        },
        "/v1/audio/transcriptions": {
            "post": operation(
                "Write a recording down",
                "The reasoner's own transcript. The operator must allow it (`CHROMA_TRANSCRIBE`); else 403.",
                {"200": transcript},
                form_of("TranscriptionRequest"),
            )
        },
        "/v1/audio/models": {
            "get": operation(
                "List the models for a picker",
                "`data` has OpenAI's form, `models` that of Open WebUI.",
                {"200": json_answer("The models.", {"type": "object"})},
            )
        },
        "/v1/audio/voices": {
            "get": operation(
                "List the voices for a picker",
                "Up to 1,000. `data` has OpenAI's form, `voices` that of Open WebUI.",
                {"200": page_answer("The voices.", "AudioVoice")},
                parameters=schemas.PAGE,
            ),
            "post": operation(
                "Enrol a voice, in OpenAI's form",
                schemas.CONSENT,
                {"200": object_answer("The voice.", "AudioVoice")},
                form(schemas.AUDIO_VOICE_FORM, "name", "audio_sample", "consent"),
                [schemas.IDEMPOTENCY_KEY],
            ),
        },
        "/v1/audio/voices/{voice_id}": {
            "delete": operation("Delete a voice for good", "", {"200": deleted}, parameters=[voice_id])
        },
        "/v1/audio/voice_consents": {
            "get": operation(
                "List the recorded consents that hold",
                "In order of their ids. All consents are under /v1/consents.",
                {"200": page_answer("A page of consents.", "VoiceConsent")},
                parameters=schemas.PAGE,
            ),
            "post": operation(
                "Record a consent",
                "The recording itself is not kept: the consent has its SHA-256.",
                {"200": recorded},
                form(schemas.VOICE_CONSENT_FORM, "name", "language", "recording"),
            ),
        },
        "/v1/audio/voice_consents/{consent_id}": {
            "get": operation("Read a recorded consent", "", {"200": recorded}, parameters=[in_path("consent_id")]),
            "delete": operation(
                "Revoke a recorded consent",
                "Erases the voices that were enrolled under it. Its record stays in /v1/consents, marked as revoked.",
                {"200": deleted},
                parameters=[in_path("consent_id")],
            ),
        },
        "/v1/models": {
            "get": operation("List the models", "", {"200": json_answer("The models.", {"type": "object"})})
        },
        "/v1/voices": {
            "get": operation(
                "List the voices",
                "In order of their ids.",
                {"200": page_answer("A page of voices.", "Voice")},
                parameters=schemas.PAGE,
            ),
            "post": operation(
                "Enrol a voice",
                schemas.CONSENT,
                {"201": voice},
                form(schemas.VOICE_FORM, "file", "transcript", "consent"),
                [schemas.IDEMPOTENCY_KEY],
            ),
        },
        "/v1/voices/{voice_id}": {
            "get": operation("Read a voice", "", {"200": voice}, parameters=[voice_id]),
            "delete": operation(
                "Delete a voice for good",
                "",
                {"200": deleted},
                parameters=[voice_id],
            ),
        },
        "/v1/consents": {
            "get": operation(
                "List the consents",
                "In order of their ids.",
                {"200": page_answer("A page of consents.", "Consent")},
                parameters=schemas.PAGE,
            )
        },
        "/v1/consents/{consent_id}": {
            "get": operation("Read a consent", "", {"200": consent}, parameters=[in_path("consent_id")])
        },
        "/v1/consents/{consent_id}/revoke": {
            "post": operation(
                "Revoke a consent",
                "Erases all its voices. The consent stays, marked as revoked.",
                {"200": consent},
                parameters=[in_path("consent_id")],
            )
        },
        "/v1/sessions/{session_id}": {
            "get": operation(
                "Read the session of a conversation",
                "",
                {"200": json_answer("The session with what was said in it.", {"type": "object"})},
                parameters=[in_path("session_id")],
            ),
            "delete": operation(
                "Delete a session, its turns and their audio",
                "",
                {"200": deleted},
                parameters=[in_path("session_id")],
            ),
        },
        "/v1/usage": {
            "get": operation(
                "Read what is used of the limits",
                "Of the caller's key; with a key of scope `admin`, of all keys of its tenant.",
                {"200": json_answer("The use, and the limits.", {"type": "object"})},
            )
        },
        "/v1/tenant": {
            "delete": operation(
                "Erase all data of the caller's tenant",
                "Needs a key with the scope `admin`. Consents stay as evidence.",
                {"200": deleted},
            )
        },
        **_calls(),
        "/v1/twilio/media-stream": {
            "get": operation(
                "Take a telephone call",
                "A WebSocket for Twilio's media streams. The key comes in the parameter `key` of the `start` message.",
                {"101": {"description": "The WebSocket is open."}},
            )
        },
        "/v1/realtime": {
            "post": operation(
                "Begin a WebRTC call, as OpenAI's beta had it",
                "",
                {"201": answer},
                {"content": {"application/sdp": {"schema": schemas.TEXT}}},
            ),
            "get": operation(
                "Have a conversation in real time",
                "A WebSocket for OpenAI's Realtime API. `session_id` continues a session.",
                {"101": {"description": "The WebSocket is open."}},
                parameters=[
                    {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("model", "session_id")
                ],
            ),
        },
        "/v1/realtime/client_secrets": {
            "post": operation(
                "Make a client secret",
                "A credential for a browser or a device. It may talk, for the tenant of the key that asks, until it "
                "expires. Send it like a key.",
                {"200": json_answer("The secret.", schemas.CLIENT_SECRET)},
                json_body("ClientSecretRequest", required=False),
            )
        },
        "/healthz": {
            "get": operation(
                "Tell whether the gateway serves", "503 if it does not.", {"200": json_answer("It serves.", {})}
            )
        },
    }


def _calls() -> dict[str, Any]:
    sdp = {"application/sdp": {"schema": schemas.TEXT}}
    answer = {"description": "The answer. `Location` names the call.", "content": sdp}
    offer = {"sdp": schemas.TEXT, "session": {"type": "string", "description": "Settings of the session, as JSON."}}
    bodies = sdp | form(offer, "sdp")["content"]
    call = [in_path("call_id")]
    none = {"200": {"description": "The call has ended."}}
    path = "/v1/realtime/calls/{call_id}"
    telephone = "There are no telephone calls over SIP: the answer is 404."
    return {
        "/v1/realtime/calls": {
            "post": operation(
                "Begin a WebRTC call", "The body is the offer.", {"201": answer}, {"required": True, "content": bodies}
            )
        },
        f"{path}/hangup": {"post": operation("End a WebRTC call", "", none, parameters=call)},
        **{
            f"{path}/{name}": {"post": operation(f"{name.title()} a telephone call", telephone, {}, parameters=call)}
            for name in ("accept", "reject", "refer")
        },
    }
