"""The client of a gateway: voices, sessions and conversations over one gRPC channel."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio

from chroma.v1 import consent_pb2, consent_pb2_grpc, dialogue_pb2, dialogue_pb2_grpc
from chroma_voice.address import is_loopback
from chroma_voice.backoff import Backoff
from chroma_voice.consent import Consent
from chroma_voice.conversation import Conversation, Encoding, Metadata
from chroma_voice.errors import ChromaError, InvalidArgument, from_rpc_error
from chroma_voice.patience import DEFAULT_PATIENCE, Patience
from chroma_voice.session import Sampling, Session, SessionSettings
from chroma_voice.tools import Tools
from chroma_voice.turn_detection import TurnDetection
from chroma_voice.voice import Voice

T = TypeVar("T")

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Limit of a message in both directions. A recording has at most 16 MiB; the entries of a long session must fit too."""


IDEMPOTENCY_KEY = "chroma-idempotency-key"
"""Metadata of a call that creates something: the same text in each attempt. The server does the work once, and answers
a repeated attempt as it answered the first."""


class Client:
    """A connection to a gateway at `address` (host:port). Use it as an async context manager.

    `timeout_s` bounds every call except conversations. When the server is away or full, a call is repeated with growing
    pauses, up to `attempts` attempts in all. `patience` says how soon a silent gateway counts as away.

    `api_key` is for gateways that require one. With `tls` the connection is encrypted; the gateway's certificate must
    be signed by an authority that gRPC trusts, or by one in `tls_ca` (PEM). Without `tls`, a key goes to this machine
    only (loopback addresses, `localhost`, Unix sockets): any other address raises `InvalidArgument`, unless
    `allow_plaintext_key` says that every network on the way to the gateway may read the key.

    `traceparent` is asked at the start of each call and conversation for the trace that the caller is in (the value of
    the W3C header, empty for none); the server's spans then belong to it.

    gRPC lets clients of one process with the same address share a connection. With `own_connection` this one does not.

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
        allow_plaintext_key: bool = False,
        patience: Patience = DEFAULT_PATIENCE,
        traceparent: Callable[[], str] | None = None,
        own_connection: bool = False,
    ) -> None:
        if api_key:
            _check_key(api_key)
        if api_key and not (tls or allow_plaintext_key or is_loopback(address)):
            raise InvalidArgument(
                f"the API key would go to {address} in plain text, and that is not an address of this machine: use "
                "tls=True, or say allow_plaintext_key=True if every network on the way may read the key"
            )
        self._timeout_s = timeout_s
        self._backoff = Backoff(attempts)
        self._patience = patience
        self._credential: Metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._traceparent = traceparent
        options = [
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            *patience.channel_options(),
        ]
        if own_connection:
            options.append(("grpc.use_local_subchannel_pool", 1))
        if is_loopback(address):
            options.append(("grpc.enable_http_proxy", 0))  # a proxy would be another machine
        if tls:
            self._channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(tls_ca), options)
        else:
            self._channel = grpc.aio.insecure_channel(address, options)
        self._dialogue = dialogue_pb2_grpc.DialogueServiceStub(self._channel)
        self._voices = dialogue_pb2_grpc.VoiceServiceStub(self._channel)
        self._consents = consent_pb2_grpc.ConsentServiceStub(self._channel)

    @property
    def _metadata(self) -> Metadata:
        """What goes with a call that begins now: the key, and the trace that the caller is in."""
        told = self._traceparent() if self._traceparent is not None else ""
        return (*self._credential, ("traceparent", told)) if told else self._credential

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
        tools: Tools | None = None,
        input_rate_hz: int | None = None,
        input_encoding: Encoding = "s16le",
        max_lead_s: float | None = None,
        turn_detection: TurnDetection | None = None,
        transcribe: bool = False,
        text_only: bool = False,
        store: bool = True,
    ) -> Conversation:
        """Return a conversation in a new session with these settings, or in the session `session_id`.

        `input_rate_hz` (8000 to 48000) and `input_encoding` describe the user's audio; a conversation without a rate
        sends no audio. `max_lead_s` is the number of seconds that the reply's speech may be made ahead of its playback;
        0 makes it as fast as possible. With `turn_detection` the server finds the user's turns in the audio; without
        it the caller commits each turn. `transcribe` asks for a `UserTranscript` after each spoken turn; the server
        must allow it. With `text_only` replies have text and no speech. Without `store`, for a new session only, the
        server keeps nothing of the conversation: its session has no id. `tools` are what the model may call: a
        `ToolCall` comes for each call.
        """
        return Conversation(
            self._dialogue,
            settings=SessionSettings(voice, system_prompt, sampling, max_reply_s, tools),
            session_id=session_id,
            input_rate_hz=input_rate_hz,
            input_encoding=input_encoding,
            max_lead_s=max_lead_s,
            turn_detection=turn_detection,
            transcribe=transcribe,
            text_only=text_only,
            store=store,
            backoff=self._backoff,
            silence_s=self._patience.silence_s,
            metadata=self._metadata,
        )

    async def create_session(self, settings: SessionSettings) -> Session:
        """Create a session. With an empty `settings.voice` it has the server's default voice."""
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
        self,
        voice_id: str,
        *,
        audio_file: bytes,
        transcript: str,
        consent: str,
        consent_subject: str = "",
        display_name: str = "",
    ) -> Voice:
        """Enrol a voice: `audio_file` is the content of an audio file of 1 to 30 s. `consent` says who
        agreed, and how; `consent_subject` names the person. Both are kept, also after the voice is deleted.

        The attempts of one call share a random idempotency key. So a voice that was stored although the answer was lost
        is returned by the next attempt, and does not raise `AlreadyExists`.
        """
        request = dialogue_pb2.CreateVoiceRequest(
            voice_id=voice_id,
            display_name=display_name,
            audio_file=audio_file,
            transcript=transcript,
            consent=consent,
            consent_subject=consent_subject,
        )
        response = await self._answer(self._voices.CreateVoice, request, (IDEMPOTENCY_KEY, secrets.token_hex(16)))
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

    async def get_consent(self, consent_id: str) -> Consent:
        """Return one consent."""
        request = consent_pb2.GetConsentRequest(consent_id=consent_id)
        response = await self._answer(self._consents.GetConsent, request)
        return Consent.from_proto(response.consent)

    async def list_consents(self) -> AsyncIterator[Consent]:
        """Yield all consents in order of their ids. They are fetched page by page."""
        page_token = ""
        while True:
            request = consent_pb2.ListConsentsRequest(page_token=page_token)
            response = await self._answer(self._consents.ListConsents, request)
            for consent in response.consents:
                yield Consent.from_proto(consent)
            page_token = response.next_page_token
            if not page_token:
                return

    async def revoke_consent(self, consent_id: str) -> Consent:
        """Revoke a consent, which deletes its voices. Return it: it is kept as evidence."""
        request = consent_pb2.RevokeConsentRequest(consent_id=consent_id)
        response = await self._answer(self._consents.RevokeConsent, request)
        return Consent.from_proto(response.consent)

    async def _answer(self, method: Callable[..., Awaitable[T]], request: object, *metadata: tuple[str, str]) -> T:
        async def attempt() -> T:
            try:
                return await method(request, timeout=self._timeout_s, metadata=(*self._metadata, *metadata))
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error
            except grpc.aio.UsageError as error:
                raise ChromaError(str(error)) from error

        return await self._backoff.run(attempt)


def _check_key(api_key: str) -> None:
    """Raise `InvalidArgument` for a key that cannot stand in a header. The message does not show the key."""
    if not all("!" <= character <= "~" for character in api_key):
        raise InvalidArgument("expected an API key of visible ASCII characters, got one with other characters in it")
