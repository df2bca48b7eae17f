"""Every rpc and every route: the scopes that open it, and its requests that name something by its id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.consent_pb2 import GetConsentRequest, RevokeConsentRequest
from tests.support.gateway_client import Client, Talk, audio_file, speech
from tests.support.tenants import ALL, Ids

TALK, VOICES = frozenset({"talk"}), frozenset({"voices"})
ANY = frozenset(ALL)

Rpc = Callable[[Client, Any, Ids], Awaitable[Any]]


async def converse(client: Client, metadata: Any, **opened: Any) -> None:
    """Open a conversation and leave it."""
    call = client.dialogue.Converse(metadata=metadata)
    talk = Talk(call)
    try:
        await talk.send(open=pb.ConverseOpen(**opened))
        await talk.until("opened")
    finally:
        call.cancel()


def of_session(method: str, request: Callable[..., Any], **rest: Any) -> Rpc:
    """A method of the dialogue service for one session."""
    return lambda client, metadata, ids: getattr(client.dialogue, method)(
        request(session_id=ids.session, **rest), metadata=metadata
    )


def of_voice(method: str, request: Callable[..., Any]) -> Rpc:
    """A method of the voice service for one voice."""
    return lambda client, metadata, ids: getattr(client.voices, method)(request(voice_id=ids.voice), metadata=metadata)


def of_consent(method: str, request: Callable[..., Any]) -> Rpc:
    """A method of the consent service for one consent."""
    return lambda client, metadata, ids: getattr(client.consents, method)(
        request(consent_id=ids.consent), metadata=metadata
    )


RPCS: dict[str, tuple[frozenset[str], list[Rpc]]] = {
    "DialogueService/CreateSession": (
        TALK,
        [
            lambda client, metadata, ids: client.dialogue.CreateSession(
                pb.CreateSessionRequest(config=pb.SessionConfig(voice_id=ids.voice)), metadata=metadata
            )
        ],
    ),
    "DialogueService/GetSession": (TALK, [of_session("GetSession", pb.GetSessionRequest)]),
    "DialogueService/UpdateSession": (
        TALK,
        [
            of_session("UpdateSession", pb.UpdateSessionRequest, config=pb.SessionConfig(max_reply_s=5)),
            lambda client, metadata, ids: client.dialogue.UpdateSession(
                pb.UpdateSessionRequest(session_id="x", config=pb.SessionConfig(voice_id=ids.voice)), metadata=metadata
            ),
        ],
    ),
    "DialogueService/DeleteSession": (TALK, [of_session("DeleteSession", pb.DeleteSessionRequest)]),
    "DialogueService/Converse": (
        TALK,
        [
            lambda client, metadata, ids: converse(client, metadata, session_id=ids.session),
            lambda client, metadata, ids: converse(client, metadata, new_session=pb.SessionConfig(voice_id=ids.voice)),
        ],
    ),
    "VoiceService/CreateVoice": (VOICES, []),
    "VoiceService/GetVoice": (TALK | VOICES, [of_voice("GetVoice", pb.GetVoiceRequest)]),
    "VoiceService/ListVoices": (TALK | VOICES, []),
    "VoiceService/DeleteVoice": (VOICES, [of_voice("DeleteVoice", pb.DeleteVoiceRequest)]),
    "ConsentService/GetConsent": (VOICES, [of_consent("GetConsent", GetConsentRequest)]),
    "ConsentService/ListConsents": (VOICES, []),
    "ConsentService/RevokeConsent": (VOICES, [of_consent("RevokeConsent", RevokeConsentRequest)]),
}
"""The scopes of each rpc, and its requests that name something by its id."""

Ask = Callable[[Ids], dict[str, Any]]

ROUTES: dict[str, tuple[frozenset[str], list[Ask]]] = {
    "POST /v1/realtime/client_secrets": (
        TALK,
        [lambda ids: {"json": {"session": {"type": "realtime", "audio": {"output": {"voice": ids.voice}}}}}],
    ),
    "POST /v1/chat/completions": (
        TALK,
        [
            lambda ids: {
                "json": {
                    "messages": [{"role": "user", "content": "hi"}],
                    "modalities": ["audio"],
                    "audio": {"voice": ids.voice},
                }
            },
            lambda ids: {
                "json": {
                    "messages": [
                        {"role": "assistant", "audio": {"id": ids.reply}},
                        {"role": "user", "content": "hi"},
                    ],
                    "modalities": ["text"],
                }
            },
        ],
    ),
    "POST /v1/responses": (
        TALK,
        [
            lambda ids: {"json": {"input": "hi", "previous_response_id": ids.response}},
            lambda ids: {
                "json": {"input": [{"type": "item_reference", "id": ids.item}, {"role": "user", "content": "hi"}]}
            },
        ],
    ),
    "POST /v1/audio/speech": (TALK, [lambda ids: {"json": {"input": "hi", "voice": ids.voice}}]),
    "POST /v1/audio/transcriptions": (TALK, []),
    "GET /v1/audio/models": (ANY, []),
    "GET /v1/audio/voices": (TALK | VOICES, []),
    "POST /v1/audio/voices": (
        VOICES,
        [
            lambda ids: {
                "data": {"name": "Copy", "transcript": "hello", "consent": ids.recorded},
                "files": {"audio_sample": ("a.wav", audio_file(speech(2, rate_hz=24_000)))},
            }
        ],
    ),
    "DELETE /v1/audio/voices/{voice}": (VOICES, [lambda ids: {}]),
    "GET /v1/audio/voice_consents": (VOICES, []),
    "POST /v1/audio/voice_consents": (VOICES, []),
    "GET /v1/audio/voice_consents/{recorded}": (VOICES, [lambda ids: {}]),
    "DELETE /v1/audio/voice_consents/{recorded}": (VOICES, [lambda ids: {}]),
    "GET /v1/models": (ANY, []),
    "GET /v1/models/{model}": (ANY, []),
    "GET /v1/voices": (TALK | VOICES, []),
    "POST /v1/voices": (VOICES, []),
    "GET /v1/voices/{voice}": (TALK | VOICES, [lambda ids: {}]),
    "DELETE /v1/voices/{voice}": (VOICES, [lambda ids: {}]),
    "GET /v1/consents": (VOICES, []),
    "GET /v1/consents/{consent}": (VOICES, [lambda ids: {}]),
    "POST /v1/consents/{consent}/revoke": (VOICES, [lambda ids: {}]),
    "GET /v1/sessions/{session}": (TALK, [lambda ids: {}]),
    "DELETE /v1/sessions/{session}": (TALK, [lambda ids: {}]),
    "GET /v1/usage": (TALK | frozenset({"admin"}), []),
    "DELETE /v1/tenant": (frozenset({"admin"}), []),
    "WS /v1/realtime": (TALK, []),
    "POST /v1/realtime": (TALK, []),
    "POST /v1/realtime/calls": (TALK, []),
    "POST /v1/realtime/calls/{call}/hangup": (TALK, [lambda ids: {}]),
    "POST /v1/realtime/calls/{call}/accept": (TALK, [lambda ids: {}]),
    "POST /v1/realtime/calls/{call}/reject": (TALK, [lambda ids: {}]),
    "POST /v1/realtime/calls/{call}/refer": (TALK, [lambda ids: {}]),
}
"""The scopes of each route, and its requests that name something by its id: in the path, or in the given arguments."""

OPEN = {"GET /healthz", "GET /health", "GET /openapi.json", "GET /docs", "/"}
"""Routes that need no key: health, the page and its files, and the public description of the API."""


LATER = {"WS /v1/twilio/media-stream"}
"""Routes whose key comes in a message: the client cannot send it before. test_twilio.py tries them without one."""
