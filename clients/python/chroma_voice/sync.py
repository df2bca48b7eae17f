"""The client for programs without asyncio: the same names, and methods that block.

with SyncClient("127.0.0.1:50051") as client, client.conversation(voice="amber") as talk:
    talk.send_text("Please tell me how to make a taco.")
    talk.commit()
    for event in talk.reply():
        ...
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from chroma_voice.client import Client
from chroma_voice.consent import Consent
from chroma_voice.conversation import Conversation, Encoding
from chroma_voice.events import Event, ToolCall, TurnDone
from chroma_voice.patience import DEFAULT_PATIENCE, Patience
from chroma_voice.reply import Reply
from chroma_voice.session import Sampling, Session, SessionSettings
from chroma_voice.tools import Tools
from chroma_voice.turn_detection import TurnDetection
from chroma_voice.voice import Voice

T = TypeVar("T")


class Loop:
    """An event loop on its own thread. Other threads run coroutines on it and wait for their results."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chroma-voice", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` and return its result. An interruption of the caller (Ctrl-C) cancels the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield each item as it comes."""
        end = object()

        async def advance() -> T | object:
            return await anext(items, end)

        while (item := self.run(advance())) is not end:
            yield item  # type: ignore[misc]

    def close(self) -> None:
        """Stop the thread. Work that still runs is dropped."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncClient:
    """`Client` for programs without asyncio. Use it as a context manager. Any thread may call it."""

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
    ) -> None:
        self._loop = Loop()

        async def connect() -> Client:
            return Client(
                address,
                timeout_s=timeout_s,
                attempts=attempts,
                api_key=api_key,
                tls=tls,
                tls_ca=tls_ca,
                allow_plaintext_key=allow_plaintext_key,
                patience=patience,
            )

        try:
            self._client = self._loop.run(connect())
        except BaseException:
            self._loop.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._client.__aexit__(kind, error, trace))
        self._loop.close()

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
    ) -> SyncConversation:
        """As `Client.conversation`."""
        conversation = self._client.conversation(
            voice=voice,
            session_id=session_id,
            system_prompt=system_prompt,
            sampling=sampling,
            max_reply_s=max_reply_s,
            tools=tools,
            input_rate_hz=input_rate_hz,
            input_encoding=input_encoding,
            max_lead_s=max_lead_s,
            turn_detection=turn_detection,
            transcribe=transcribe,
            text_only=text_only,
            store=store,
        )
        return SyncConversation(conversation, self._loop)

    def create_session(self, settings: SessionSettings) -> Session:
        """As `Client.create_session`."""
        return self._loop.run(self._client.create_session(settings))

    def get_session(self, session_id: str) -> Session:
        """As `Client.get_session`."""
        return self._loop.run(self._client.get_session(session_id))

    def update_session(self, session_id: str, settings: SessionSettings) -> Session:
        """As `Client.update_session`."""
        return self._loop.run(self._client.update_session(session_id, settings))

    def delete_session(self, session_id: str) -> None:
        """As `Client.delete_session`."""
        self._loop.run(self._client.delete_session(session_id))

    def create_voice(
        self,
        voice_id: str,
        *,
        audio_file: bytes,
        transcript: str,
        consent: str,
        consent_subject: str = "",
        display_name: str = "",
    ) -> Voice:
        """As `Client.create_voice`."""
        work = self._client.create_voice(
            voice_id,
            audio_file=audio_file,
            transcript=transcript,
            consent=consent,
            consent_subject=consent_subject,
            display_name=display_name,
        )
        return self._loop.run(work)

    def get_voice(self, voice_id: str) -> Voice:
        """As `Client.get_voice`."""
        return self._loop.run(self._client.get_voice(voice_id))

    def list_voices(self) -> Iterator[Voice]:
        """As `Client.list_voices`."""
        return self._loop.iterate(self._client.list_voices())

    def delete_voice(self, voice_id: str) -> None:
        """As `Client.delete_voice`."""
        self._loop.run(self._client.delete_voice(voice_id))

    def get_consent(self, consent_id: str) -> Consent:
        """As `Client.get_consent`."""
        return self._loop.run(self._client.get_consent(consent_id))

    def list_consents(self) -> Iterator[Consent]:
        """As `Client.list_consents`."""
        return self._loop.iterate(self._client.list_consents())

    def revoke_consent(self, consent_id: str) -> Consent:
        """As `Client.revoke_consent`."""
        return self._loop.run(self._client.revoke_consent(consent_id))


class SyncConversation:
    """`Conversation` for programs without asyncio. Make it with `SyncClient.conversation`. It is a context manager."""

    def __init__(self, conversation: Conversation, loop: Loop) -> None:
        self._conversation = conversation
        self._loop = loop

    @property
    def renders_tools(self) -> bool:
        """As `Conversation.renders_tools`."""
        return self._conversation.renders_tools

    @property
    def session(self) -> Session:
        """The session as it was when the conversation began."""
        return self._conversation.session

    def __enter__(self) -> Self:
        self._loop.run(self._conversation.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._conversation.__aexit__(kind, error, trace))

    def send_audio(self, data: bytes) -> None:
        """As `Conversation.send_audio`."""
        self._loop.run(self._conversation.send_audio(data))

    def send_text(self, text: str) -> None:
        """As `Conversation.send_text`."""
        self._loop.run(self._conversation.send_text(text))

    def commit(self, *, allow_empty: bool = False) -> None:
        """As `Conversation.commit`."""
        self._loop.run(self._conversation.commit(allow_empty=allow_empty))

    def answer(self, call_id: str, output: str) -> None:
        """As `Conversation.answer`."""
        self._loop.run(self._conversation.answer(call_id, output))

    def say(self, text: str, *, end: bool = True, verbatim: bool = False, language: str = "") -> None:
        """As `Conversation.say`."""
        self._loop.run(self._conversation.say(text, end=end, verbatim=verbatim, language=language))

    def cancel(self, *, played_s: float | None = None) -> None:
        """As `Conversation.cancel`."""
        self._loop.run(self._conversation.cancel(played_s=played_s))

    def update(self, settings: SessionSettings) -> None:
        """As `Conversation.update`."""
        self._loop.run(self._conversation.update(settings))

    def detect_turns(self, detection: TurnDetection | None) -> None:
        """As `Conversation.detect_turns`."""
        self._loop.run(self._conversation.detect_turns(detection))

    def events(self) -> Iterator[Event]:
        """As `Conversation.events`."""
        return self._loop.iterate(self._conversation.events())

    def reply(self) -> SyncReply:
        """As `Conversation.reply`."""
        return SyncReply(self._conversation.reply(), self._loop)


class SyncReply:
    """`Reply` for programs without asyncio."""

    def __init__(self, reply: Reply, loop: Loop) -> None:
        self._reply = reply
        self._loop = loop

    def __iter__(self) -> Iterator[Event]:
        return self._loop.iterate(aiter(self._reply))

    def text(self) -> Iterator[str]:
        """As `Reply.text`."""
        return self._loop.iterate(self._reply.text())

    def audio(self) -> Iterator[bytes]:
        """As `Reply.audio`."""
        return self._loop.iterate(self._reply.audio())

    def tool_calls(self) -> list[ToolCall]:
        """As `Reply.tool_calls`."""
        return self._loop.run(self._reply.tool_calls())

    def done(self) -> TurnDone:
        """As `Reply.done`."""
        return self._loop.run(self._reply.done())
