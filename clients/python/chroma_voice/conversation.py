"""A conversation over one `Converse` call: it sends the user's turns and receives spoken replies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Literal, Self

import grpc.aio

from chroma.v1 import audio_pb2, dialogue_pb2, dialogue_pb2_grpc, tools_pb2
from chroma_voice.backoff import Backoff
from chroma_voice.errors import ChromaError, FirstStatus, Unavailable, from_rpc_error
from chroma_voice.events import EndsSoon, Event, TurnDone, TurnStarted, events_from_proto
from chroma_voice.patience import SilenceAlarm
from chroma_voice.reply import Reply
from chroma_voice.session import Session, SessionSettings
from chroma_voice.turn_detection import TurnDetection, detection_to_proto

Encoding = Literal["s16le", "f32le"]

_ENCODINGS: dict[Encoding, audio_pb2.AudioEncoding.ValueType] = {
    "s16le": audio_pb2.AUDIO_ENCODING_PCM_S16LE,
    "f32le": audio_pb2.AUDIO_ENCODING_PCM_F32LE,
}
_MESSAGE_BYTES = 32_768
"""Size of an audio message: far below every message limit, and a whole number of samples of each encoding."""

Metadata = tuple[tuple[str, str], ...]
Call = grpc.aio.StreamStreamCall[dialogue_pb2.ConverseRequest, dialogue_pb2.ConverseResponse]


class Conversation:
    """A live conversation. Make it with `Client.conversation` and use it as an async context manager.

    Entering opens the call and sets `session`; it is repeated while the server is away or full. When the body of the
    `async with` ends, the conversation ends. When the body raises, the call is cancelled, and the server frees what the
    call holds within one step. When the call is lost or refused, the method that waits for it raises a `ChromaError`.
    One task may send while another one reads.
    """

    session: Session
    renders_tools: bool
    """Whether the server's model knows tools. If not, those of the settings have no effect."""

    def __init__(
        self,
        stub: dialogue_pb2_grpc.DialogueServiceAsyncStub,
        *,
        settings: SessionSettings,
        session_id: str,
        input_rate_hz: int | None,
        input_encoding: Encoding,
        max_lead_s: float | None,
        turn_detection: TurnDetection | None,
        transcribe: bool,
        text_only: bool,
        store: bool,
        backoff: Backoff,
        silence_s: float,
        metadata: Metadata,
    ) -> None:
        self._stub = stub
        self._silence_s = silence_s
        self._alarm = SilenceAlarm(silence_s, self._give_up)
        self._kept: list[Event] = []
        """Events of a later turn that came before the end of the reply which was read."""
        self._came: deque[Event] = deque()
        """Events of the last message that are still to be read."""
        self._say_goes_on = False
        self._turn_id = ""
        self._metadata = metadata
        self._backoff = backoff
        self._call: Call | None = None
        self._open = dialogue_pb2.ConverseOpen(max_lead_s=max_lead_s, transcribe=transcribe, text_only=text_only)
        if turn_detection is not None:
            self._open.turn_detection.CopyFrom(turn_detection.to_proto())
        if not store:
            self._open.store = False
        if session_id:
            self._open.session_id = session_id
        else:
            self._open.new_session.CopyFrom(settings.to_proto())
        if input_rate_hz is not None:
            self._open.input_format.encoding = _ENCODINGS[input_encoding]
            self._open.input_format.sample_rate_hz = input_rate_hz

    async def __aenter__(self) -> Self:
        await self._backoff.run(self._start)
        return self

    async def _start(self) -> None:
        self._call = self._stub.Converse(metadata=self._metadata)
        self._first_status = FirstStatus(self._call)
        self._alarm = SilenceAlarm(self._silence_s, self._give_up)
        try:
            await self._send(dialogue_pb2.ConverseRequest(open=self._open))
            self._alarm.set_owed(True)
            response = await self._receive()
            self._alarm.set_owed(False)
        except BaseException:
            self._call.cancel()
            raise
        if response is None or response.WhichOneof("response") != "opened":
            self._call.cancel()
            raise ChromaError(f"expected `opened` as the first message of the conversation, got {response}")
        self.session = Session.from_proto(response.opened.session)
        self.renders_tools = response.opened.renders_tools

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call = self._running
        try:
            if kind is None and not call.done():
                await call.done_writing()
                while await self._receive() is not None:
                    pass
        finally:
            call.cancel()

    async def send_audio(self, data: bytes) -> None:
        """Send the user's speech: mono PCM in the conversation's input encoding and rate, while it is recorded."""
        for start in range(0, len(data), _MESSAGE_BYTES):
            await self._send(dialogue_pb2.ConverseRequest(audio=data[start : start + _MESSAGE_BYTES]))

    async def send_text(self, text: str) -> None:
        """Send a text part of the user's turn."""
        await self._send(dialogue_pb2.ConverseRequest(text=text))

    async def commit(self, *, allow_empty: bool = False) -> None:
        """End the user's turn. Its reply starts; a reply that still runs is interrupted.

        With `allow_empty` a turn in which the user says nothing is answered too: the reply follows the history.
        """
        await self._send(dialogue_pb2.ConverseRequest(commit=dialogue_pb2.CommitTurn(allow_empty=allow_empty)))
        self._owe_a_reply()

    async def answer(self, call_id: str, output: str) -> None:
        """Give the result of a tool call to the model, as text. `commit` with `allow_empty` then makes it reply."""
        result = tools_pb2.ToolResult(call_id=call_id, output=output)
        await self._send(dialogue_pb2.ConverseRequest(tool_result=result))

    async def say(self, text: str, *, end: bool = True, verbatim: bool = False, language: str = "") -> None:
        """Let the session's voice speak `text`. With `end` False more pieces of the text follow.

        The server makes the text speakable (markdown, numbers, addresses), unless `verbatim`. `language` is its BCP 47
        tag; empty means the server's default. The first piece decides both.
        """
        say = dialogue_pb2.Say(text=text, end=end, verbatim=verbatim, language=language)
        await self._send(dialogue_pb2.ConverseRequest(say=say))
        if end:
            self._owe_a_reply()
        else:
            self._say_goes_on = True
            self._alarm.set_owed(False)

    async def cancel(self, *, played_s: float | None = None) -> None:
        """Interrupt the running reply, of which `played_s` seconds were played. Without one, drop uncommitted input."""
        cancel = dialogue_pb2.CancelTurn(played_ms=None if played_s is None else round(played_s * 1000))
        await self._send(dialogue_pb2.ConverseRequest(cancel=cancel))

    async def update(self, settings: SessionSettings) -> None:
        """Change the session's settings from the next turn on. None and an empty voice change nothing."""
        await self._send(dialogue_pb2.ConverseRequest(update=settings.to_proto()))

    async def detect_turns(self, detection: TurnDetection | None) -> None:
        """Change the turn detection from now on. None turns it off: the caller commits each turn."""
        await self._send(dialogue_pb2.ConverseRequest(turn_detection=detection_to_proto(detection)))

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield all events until the conversation ends."""
        while (event := await self._event_of("")) is not None:
            yield event

    def reply(self) -> Reply:
        """Return the reply of the next turn: iterate over it for all events, or over its `text()` and `audio()`."""
        return Reply(self._event_of)

    @property
    def _running(self) -> Call:
        if self._call is None:
            raise RuntimeError("enter the conversation first: `async with client.conversation(...) as talk`")
        return self._call

    async def _send(self, request: dialogue_pb2.ConverseRequest) -> None:
        call = self._running
        try:
            async with asyncio.timeout(self._silence_s):
                await call.write(request)
        except grpc.aio.AioRpcError as error:
            if (first := self._first_status.error(error)) is None:
                raise _ended_by_server() from None
            raise from_rpc_error(first) from error
        except TimeoutError:
            raise self._hung("took nothing") from None
        except asyncio.InvalidStateError:
            # The call has ended. Reading from it raises its status.
            while await self._receive() is not None:
                pass
            raise _ended_by_server() from None

    async def _event_of(self, turn_id: str) -> Event | None:
        """Return the next event that is not of a turn which started after `turn_id`; with an empty id, the next event.

        What is of a later turn is kept for the reply of that turn. None: the conversation has ended.
        """
        later: set[str] = set()

        def is_later(event: Event) -> bool:
            if turn_id and isinstance(event, TurnStarted) and event.turn_id != turn_id:
                later.add(event.turn_id)
            return not isinstance(event, EndsSoon) and event.turn_id in later

        for index, event in enumerate(self._kept):
            if not is_later(event):
                del self._kept[index]
                return event
        while (event := await self._event()) is not None:
            if not is_later(event):
                return event
            self._kept.append(event)
        return None

    async def _event(self) -> Event | None:
        """Return the next event, or None when the conversation has ended without an error."""
        while not self._came:
            if (response := await self._receive()) is None:
                return None
            self._came.extend(events_from_proto(response))
        event = self._came.popleft()
        self._note(event)
        return event

    async def _receive(self) -> dialogue_pb2.ConverseResponse | None:
        """Return the next message, or None when the server has ended the conversation without an error."""
        try:
            with self._alarm.reading():
                response = await self._running.read()
        except grpc.aio.AioRpcError as error:
            if (first := self._first_status.error(error)) is None:
                return None
            raise from_rpc_error(first) from error
        except asyncio.CancelledError:
            if self._alarm.rang:
                raise self._hung("sent nothing") from None
            raise
        return response if isinstance(response, dialogue_pb2.ConverseResponse) else None

    def _note(self, event: Event) -> None:
        """Note whether a reply is owed after `event`. A `say` whose text goes on owes nothing: its caller is next."""
        if isinstance(event, TurnStarted):
            self._turn_id = event.turn_id
            self._alarm.set_owed(not self._say_goes_on)
        elif isinstance(event, TurnDone) and self._turn_id in ("", event.turn_id):
            self._alarm.set_owed(False)

    def _owe_a_reply(self) -> None:
        self._say_goes_on = False
        self._turn_id = ""
        self._alarm.set_owed(True)

    def _give_up(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def _hung(self, what: str) -> Unavailable:
        return Unavailable(
            f"the gateway hangs: it {what} for {self._silence_s:g} s: connect again, with the session's id"
        )


def _ended_by_server() -> ChromaError:
    return ChromaError("the server ended the conversation", status="CANCELLED")
