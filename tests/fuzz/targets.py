"""What the fuzzer runs: each target gives one input to a public parser or to a whole Realtime connection.

A target returns when the input was taken or refused with a domain error. Any other exception is a finding, and so is an
error that was logged with a traceback.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, cast

from pydantic import BaseModel
from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketState

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.usage import Usage
from gateway.api.client_json import decode_base64, parse_request
from gateway.api.errors import error_response
from gateway.api.field_errors import fit
from gateway.api.fields import MAX_NAME_CHARS
from gateway.api.grpc.options import conversation_options, turn_detection
from gateway.api.openai.audio.forms import read_form
from gateway.api.openai.audio.speech import SpeechRequest
from gateway.api.openai.chat.request import ChatRequest, decode_recording
from gateway.api.openai.responses.request import ResponsesRequest
from gateway.api.realtime.connection import Connection
from gateway.api.realtime.events.transport import HungUp, WebSocketTransport
from gateway.api.realtime.route import close_reason
from gateway.api.realtime.session.client_secrets import ClientSecretRequest
from gateway.api.twilio.messages import MarkMessage, MediaMessage, Parameters, StartMessage, read_message
from gateway.api.webrtc.answer import LocalTransport, write_answer
from gateway.api.webrtc.offer import read_offer
from gateway.audio.file_kind import kind_of
from gateway.audio.read import read_recording
from gateway.audio.repair import repaired
from gateway.conversation.backend import Backend
from gateway.conversation.options import check_change, check_new
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session
from services.common.errors import ChromaError
from services.common.rpc.rpc_errors import tolerant
from tests.support.fake_calls import FakeUpstreamPool
from tests.support.fake_store import CALLER, FakeSessions, FakeVoices

_SETTINGS = GatewaySettings(
    reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", default_voice="ada", transcribe=True
)


def chat(data: bytes) -> None:
    """A request of /v1/chat/completions, and one of /v1/responses."""
    asked = _request(data, ResponsesRequest)
    if isinstance(asked, ResponsesRequest):
        _refusable(asked.check)
        assert all(len(name) <= MAX_NAME_CHARS for name in asked.ignored)
    wanted = _request(data, ChatRequest)
    if isinstance(wanted, ChatRequest):
        assert len(wanted.voice) <= MAX_NAME_CHARS
        _refusable(lambda: _now(decode_recording(wanted.prompt_audio or "", "prompt_audio")))


def speech(data: bytes) -> None:
    """A request of /v1/audio/speech, and one of /v1/realtime/client_secrets."""
    _request(data, SpeechRequest)
    _request(data, ClientSecretRequest)


def base64(data: bytes) -> None:
    """Text as base64, and as the reason of a close frame."""
    text = data.decode(errors="replace")
    _refusable(lambda: _now(decode_base64(text, "audio", "audio")))
    assert len(close_reason(text).encode()) <= 123


def form(data: bytes) -> None:
    """A form that enrols a voice: the content type in the first line, the body in the others."""
    content_type, _, body = data.partition(b"\n")
    headers = [(b"content-type", b"multipart/form-data; " + content_type), (b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "method": "POST", "path": "/v1/voices", "headers": headers, "app": None}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    def read() -> None:
        fields = ("voice_id", "name", "transcript", "consent", "consent_subject")
        _, texts = _now(read_form(Request(scope, receive), file_field="file", fields=fields, lists=("include",)))
        for text in texts.values():
            "".join(text).encode()

    _refusable(read)


def grpc(data: bytes) -> None:
    """A message of Converse, and one of the other methods."""
    message = tolerant(pb.ConverseRequest.FromString)(data)
    if isinstance(message, pb.ConverseRequest):
        match message.WhichOneof("request"):
            case "open":
                _refusable(lambda: conversation_options(message.open))
                _refusable(lambda: check_new(message.open.new_session, max_prompt_chars=1_000))
            case "update":
                _refusable(lambda: check_change(message.update, max_prompt_chars=1_000))
            case "turn_detection":
                _refusable(lambda: turn_detection(message.turn_detection))
            case _:
                pass
    for kind in (pb.CreateSessionRequest, pb.CreateVoiceRequest, pb.ListVoicesRequest):
        tolerant(kind.FromString)(data)


def audio(data: bytes) -> None:
    """An uploaded recording."""
    repaired(data)
    assert kind_of(data)[0]
    _refusable(lambda: _loop().run_until_complete(read_recording(data, min_s=0.0, max_s=2.0)))


def realtime(data: bytes) -> None:
    """A Realtime client: each line is a message. A line that begins with a NUL character is a binary message."""
    _loop().run_until_complete(_realtime(data.split(b"\n")[:50]))


class _Socket:
    """The server's side of a WebSocket whose client sends the messages, then hangs up."""

    client_state = application_state = WebSocketState.CONNECTED

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = [
            {"type": "websocket.receive", "bytes": line[1:]}
            if line.startswith(b"\0")
            else {"type": "websocket.receive", "text": line.decode(errors="replace")}
            for line in messages
        ]
        self._next = 0

    async def receive(self) -> dict[str, Any]:
        if self._next == len(self._messages):
            return {"type": "websocket.disconnect", "code": 1000}
        self._next += 1
        return self._messages[self._next - 1]

    async def send_text(self, text: str) -> None:
        text.encode()
        json.loads(text)


async def _realtime(messages: list[bytes]) -> None:
    session = Session("tenant", "session-1", SessionConfig(voice_id="ada"), (), 0, 0, 0.0, 0.0)
    sessions = FakeSessions(session, _SETTINGS)
    upstreams, voices = cast(UpstreamPool, FakeUpstreamPool()), FakeVoices(sessions)
    backend = Backend(upstreams, sessions, voices, _SETTINGS, Usage(None, _SETTINGS))
    socket = cast(WebSocket, _Socket(messages))
    transport = WebSocketTransport(socket)
    with suppress(HungUp):
        await Connection(transport, backend, CALLER, session, "model", beta=bool(len(messages) % 2)).run(
            asyncio.Event()
        )


def offer(data: bytes) -> None:
    """The offer of a WebRTC call, and its answer."""

    def answered() -> None:
        found = read_offer(data.decode(errors="replace"))
        write_answer(found, LocalTransport("ufrag", "p" * 22, [("sha-256", "AB")], [], False, 1, "us", 5_000)).encode()

    _refusable(answered)


def twilio(data: bytes) -> None:
    """A message of Twilio's media streams."""

    async def read() -> None:
        _, message = await read_message(data.decode(errors="replace"))
        for kind in (StartMessage, MediaMessage, MarkMessage):
            with suppress(ChromaError):
                fit(message, kind)
        with suppress(ChromaError):
            await fit(message, Parameters).settings()

    with suppress(ChromaError):
        _loop().run_until_complete(read())


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (offer, twilio, realtime, chat, speech, form, grpc, audio, base64)
}


def raise_logged_bugs() -> None:
    """Make an error that is logged with a traceback a finding."""
    logging.getLogger().addHandler(_Raise())
    logging.getLogger().setLevel(logging.WARNING)


class _Raise(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            raise record.exc_info[1]


def _request(data: bytes, model: type[BaseModel]) -> BaseModel | None:
    return _refusable(lambda: _now(parse_request(data, model)))


def _refusable(run: Callable[[], Any]) -> Any:
    """The result of `run`. None: it was refused, with an error that can be sent."""
    try:
        return run()
    except ChromaError as error:
        error_response(error)
    return None


def _now(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing: the inputs are too short to be read in a thread."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    finally:
        work.close()
    raise AssertionError("the coroutine waits")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()
