"""The client of a gateway: voices, sessions and conversations over one gRPC channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio

from chroma.v1 import dialogue_pb2, dialogue_pb2_grpc
from chroma_voice.backoff import Backoff
from chroma_voice.conversation import Conversation, Encoding, Metadata
from chroma_voice.errors import ChromaError, from_rpc_error
from chroma_voice.session import Sampling, Session, SessionSettings
from chroma_voice.turn_detection import TurnDetection
from chroma_voice.voice import Voice

T = TypeVar("T")

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Limit of a message in both directions. A recording has at most 16 MiB; the entries of a long session must fit too."""


class Client:
    """A connection to a gateway at `address` (host:port). Use it as an async context manager.

    `timeout_s` bounds every call except conversations. When the server is away or full, a call is repeated with growing
    pauses, up to `attempts` attempts in all. `api_key` is for gateways that require one. With `tls` the connection is
    encrypted; the gateway's certificate must be signed by an authority that gRPC trusts, or by one in `tls_ca` (PEM).
    A failed call raises a `ChromaError` (see `chroma_voice.errors`).
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 60.0,
        attempts: int = 5,
        api_key: str = "",
        tls: bool = False,
        tls_ca: bytes | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._backoff = Backoff(attempts)
        self._metadata: Metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        options = [
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        ]
        if tls:
            self._channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(tls_ca), options)
        else:
            self._channel = grpc.aio.insecure_channel(address, options)
        self._dialogue = dialogue_pb2_grpc.DialogueServiceStub(self._channel)
        self._voices = dialogue_pb2_grpc.VoiceServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    def conversation(
        self,
        *,
        voice: str = "",
        session_id: str = "",
        system_prompt: str | None = None,
        sampling: Sampling | None = None,
        max_reply_s: float | None = None,
        input_rate_hz: int | None = None,
        input_encoding: Encoding = "s16le",
        max_lead_s: float | None = None,
        turn_detection: TurnDetection | None = None,
        transcribe: bool = False,
        text_only: bool = False,
    ) -> Conversation:
        """Return a conversation in a new session with these settings, or in the session `session_id`.

        `input_rate_hz` (8000 to 48000) and `input_encoding` describe the user's audio; a conversation without a rate
        sends no audio. `max_lead_s` is the number of seconds that the reply's speech may be made ahead of its playback;
        0 makes it as fast as possible. With `turn_detection` the server finds the user's turns in the audio; without
        it the caller commits each turn. `transcribe` asks for a `UserTranscript` after each spoken turn; the server
        must allow it. With `text_only` replies have text and no speech.
        """
        return Conversation(
            self._dialogue,
            settings=SessionSettings(voice, system_prompt, sampling, max_reply_s),
            session_id=session_id,
            input_rate_hz=input_rate_hz,
            input_encoding=input_encoding,
            max_lead_s=max_lead_s,
            turn_detection=turn_detection,
            transcribe=transcribe,
            text_only=text_only,
            backoff=self._backoff,
            metadata=self._metadata,
        )

    async def create_session(self, settings: SessionSettings) -> Session:
        """Create a session; `settings.voice` is required."""
        request = dialogue_pb2.CreateSessionRequest(config=settings.to_proto())
        response = await self._answer(self._dialogue.CreateSession, request)
        return Session.from_proto(response.session)

    async def get_session(self, session_id: str) -> Session:
        """Return a session with its entries."""
        request = dialogue_pb2.GetSessionRequest(session_id=session_id)
        response = await self._answer(self._dialogue.GetSession, request)
        return Session.from_proto(response.session)

    async def update_session(self, session_id: str, settings: SessionSettings) -> Session:
        """Change a session's settings from its next turn on."""
        request = dialogue_pb2.UpdateSessionRequest(session_id=session_id, config=settings.to_proto())
        response = await self._answer(self._dialogue.UpdateSession, request)
        return Session.from_proto(response.session)

    async def delete_session(self, session_id: str) -> None:
        """Delete a session, its turns and its audio."""
        request = dialogue_pb2.DeleteSessionRequest(session_id=session_id)
        await self._answer(self._dialogue.DeleteSession, request)

    async def create_voice(
        self, voice_id: str, *, audio_file: bytes, transcript: str, consent: str, display_name: str = ""
    ) -> Voice:
        """Enrol a voice: `audio_file` is the content of a WAV, FLAC, OGG or MP3 file of 1 to 30 s."""
        request = dialogue_pb2.CreateVoiceRequest(
            voice_id=voice_id,
            display_name=display_name,
            audio_file=audio_file,
            transcript=transcript,
            consent=consent,
        )
        response = await self._answer(self._voices.CreateVoice, request)
        return Voice.from_proto(response.voice)

    async def get_voice(self, voice_id: str) -> Voice:
        """Return one voice."""
        request = dialogue_pb2.GetVoiceRequest(voice_id=voice_id)
        response = await self._answer(self._voices.GetVoice, request)
        return Voice.from_proto(response.voice)

    async def list_voices(self) -> AsyncIterator[Voice]:
        """Yield all voices in order of their ids. They are fetched page by page."""
        page_token = ""
        while True:
            request = dialogue_pb2.ListVoicesRequest(page_token=page_token)
            response = await self._answer(self._voices.ListVoices, request)
            for voice in response.voices:
                yield Voice.from_proto(voice)
            page_token = response.next_page_token
            if not page_token:
                return

    async def delete_voice(self, voice_id: str) -> None:
        """Delete a voice."""
        request = dialogue_pb2.DeleteVoiceRequest(voice_id=voice_id)
        await self._answer(self._voices.DeleteVoice, request)

    async def _answer(self, method: Callable[..., Awaitable[T]], request: object) -> T:
        async def attempt() -> T:
            try:
                return await method(request, timeout=self._timeout_s, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error
            except grpc.aio.UsageError as error:
                raise ChromaError(str(error)) from error

        return await self._backoff.run(attempt)
