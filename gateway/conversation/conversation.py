"""A conversation: the one state machine behind every public face.

    idle --audio, text--> hearing --commit--> replying --end of speech--> idle
                             |cancel: dropped      |commit, cancel, say, speech: interrupted (barge-in)

Hearing and replying overlap: the user may speak while a reply plays. With turn detection, speech in the stream of sound
starts a turn and silence commits it. A face (gRPC, WebSocket, HTTP) calls the inputs one at a time from one task, and
runs `run` beside them, which hands it the events in order. An interrupted reply stops at once: its calls are cancelled,
its undelivered events dropped, and history keeps only what was heard.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.backend import Backend
from gateway.conversation.context import SessionContext
from gateway.conversation.event_queue import EventQueue
from gateway.conversation.events import Event, Opened, SpeechStarted, SpeechStopped, TurnStarted
from gateway.conversation.input_audio import InputAudioBuffer
from gateway.conversation.options import ConversationOptions
from gateway.conversation.transcription import Transcriber
from gateway.conversation.turn_metrics import sound_sent
from gateway.conversation.turn_report import injected_record
from gateway.conversation.turns import ActiveTurns, samples_of
from gateway.conversation.vad import Started
from gateway.metrics import CONVERSATIONS
from gateway.pipeline.deltas import AudioDelta
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.store.sessions import Session
from gateway.store.voices import SpokenVoice
from gateway.tasks import cancel
from services.common.errors import FailedPrecondition, InvalidArgument


class Conversation:
    """One client talking in one session. `deliver` takes an event to the client and may block for a stated time.

    `voice`: one that is in no store, for a passing conversation.
    """

    def __init__(
        self,
        session: Session,
        terms: ConversationOptions,
        backend: Backend,
        deliver: Callable[[Event], Awaitable[None]],
        *,
        voice: SpokenVoice | None = None,
    ) -> None:
        self._input_audio = InputAudioBuffer(self._input)
        self._terms = ConversationOptions()
        self._settings = backend.settings
        self._context = SessionContext(session, backend.sessions, backend.voices, backend.settings, voice)
        self._deliver = deliver
        self._events = EventQueue(Opened(session), self._hand_over, backend.settings)
        self._transcriber = Transcriber(backend.upstreams, backend.settings, self._events.put)
        self._turns = ActiveTurns(self._context, self._events, self._transcriber, backend)
        self._saying: ForcedReply | None = None
        self.listen(terms)

    # What the client does.

    def listen(self, terms: ConversationOptions) -> None:
        """Talk on other terms from here on. Raises InvalidArgument for turn detection that makes no sense, and for
        another format while the user's turn is heard."""
        if self._turns.hearing is not None and terms.input_format != self._terms.input_format:
            raise InvalidArgument("the audio format cannot change within the user's turn")
        self._input_audio.retune(terms)
        self._terms = terms

    async def audio(self, data: bytes) -> None:
        """Sound from the user, in the client's format: speech or, with turn detection, whatever the microphone hears.

        Raises InvalidArgument when the conversation has no audio and, with turn detection, for broken samples.
        """
        detection = self._input_audio.detection
        for edge in self._input_audio.hear(data):
            if isinstance(edge, Started):
                if detection.interrupt:
                    await self._turns.interrupt()
                self._input()
                await self._events.put(SpeechStarted(self._heard_turn_id(), edge.at_ms))
            else:
                self._input().end_audio()
                await self._events.put(SpeechStopped(self._heard_turn_id(), edge.at_ms))
                if detection.respond:
                    await self.commit()

    def recording(self, data: bytes) -> str:
        """A whole recording as a part of the user's turn, in the client's format; no turn detection looks at it. The
        turn's id. Raises InvalidArgument when the conversation has no audio."""
        self._input_audio.record(data)
        return self._heard_turn_id()

    def end_audio(self) -> str:
        """End the recording under way; what follows is another part of the same turn. Its turn's id, or an empty string
        if nothing is being recorded."""
        if self._turns.hearing is None:
            return ""
        self._input_audio.end()
        return self._heard_turn_id() if self._input().end_audio() else ""

    async def drop_audio(self) -> None:
        """Forget the recording under way."""
        self._input_audio.forget()
        if self._turns.hearing is None:
            return
        source, turn_id = self._input(), self._heard_turn_id()
        source.drop_audio()
        await self.drop_input()
        if source.parts:  # the reasoner hears what is left from the beginning
            self._turns.hearing = self._turns.begin(turn_id, source, self._terms)

    def text(self, text: str) -> str:
        """A text part of the user's turn. The turn's id."""
        self._input().add_text(text)
        return self._heard_turn_id()

    @property
    def hearing(self) -> bool:
        """Whether a turn of the user's has begun."""
        return self._turns.hearing is not None

    @property
    def replying(self) -> bool:
        """Whether a reply runs."""
        return self._turns.replying is not None

    async def drop_input(self) -> None:
        """Forget the user's turn as far as it was heard."""
        self._input_audio.forget()
        await self._turns.drop_hearing()

    async def recall(self, text: str) -> str:
        """A reply of the past, told by the client: the answer to the input so far, if there is any. The turn's id.

        Raises FailedPrecondition while a reply runs.
        """
        if self._turns.replying is not None:
            raise FailedPrecondition("the past cannot be told while a reply runs")
        self._input()
        self.end_audio()
        assert self._turns.hearing is not None, "the input has begun"
        turn = self._turns.hearing.turn
        await self.drop_input()
        await self._context.keep(injected_record(turn, text), forget=0)
        return turn.turn_id

    async def forget(self, turn_id: str, *, user: bool) -> bool:
        """Drop the user's side of a turn, or its reply: from the history, or from what is heard now. A running reply is
        interrupted first. False if there is no such turn."""
        if self._turns.hearing is not None and self._heard_turn_id() == turn_id:
            await self.drop_input()
            return True
        if self._turns.replying is not None and self._turns.replying.turn.turn_id == turn_id:
            await self._turns.interrupt()
        return await self._context.forget(turn_id, user=user)

    async def commit(self, change: SessionConfig | None = None) -> None:
        """End the user's turn: a running reply is interrupted, and the reply to this turn starts. `change` holds
        settings for this reply alone."""
        source = self._input()
        self.end_audio()
        await self._turns.interrupt()
        live = self._turns.hearing
        assert live is not None, "the input has begun"
        if change is not None or self._turns.is_stale(live, self._terms):
            await cancel(live.task)
            live = self._turns.begin(live.turn.turn_id, source, self._terms, change)
        self._turns.hearing, self._turns.replying = None, live
        await self._events.put(TurnStarted(live.turn.turn_id))
        source.commit()

    async def cancel(self, played_ms: int | None = None, turn_id: str = "") -> None:
        """Interrupt the running reply, of which the client played `played_ms`. If none runs, or not that of `turn_id`:
        with `played_ms`, history keeps only that much of the last reply, or the named one; without, uncommitted input
        is dropped unless a turn is named."""
        self._events.touch()
        live = self._turns.replying
        named_another = turn_id and (live is None or live.turn.turn_id != turn_id)
        if not named_another and await self._turns.interrupt(played_ms):
            return
        if played_ms is not None:
            await self._context.shorten(samples_of(played_ms), turn_id)
        elif not turn_id:
            await self.drop_input()

    async def say(self, text: str, *, end: bool) -> None:
        """A piece of a reply whose text the client gives. The first piece interrupts a running reply; pieces of an
        interrupted one are ignored up to its end."""
        self._events.touch()
        if self._saying is None:
            await self._turns.interrupt()
            self._saying = ForcedReply(max_chars=self._settings.max_input_chars)
            turn_id = _new_turn_id()
            await self._events.put(TurnStarted(turn_id))
            self._turns.replying = self._turns.begin(turn_id, self._saying, self._terms)
        self._saying.add_text(text, end=end)
        if end:
            self._saying = None

    async def update(self, change: SessionConfig) -> None:
        """New settings, from the next turn on. Raises NotFound, Unavailable."""
        self._events.touch()
        await self._context.configure(change)

    async def finish(self) -> None:
        """No input will follow: drop what is uncommitted, let the running reply end, then end `run`."""
        await self.drop_input()
        if self._turns.replying is not None:
            await asyncio.wait([self._turns.replying.task])
        await self._transcriber.finish()
        await self._events.close()

    # What the client gets.

    async def run(self) -> None:
        """Deliver events until `finish`. Whatever ends it, no task or call of the conversation is left.

        Raises:
            DeadlineExceeded: idle or talking for too long, or a client that takes nothing.
        """
        CONVERSATIONS.inc()
        try:
            await self._events.run()
        finally:
            CONVERSATIONS.dec()
            await self._turns.close()
            await self._transcriber.close()

    async def _hand_over(self, event: Event) -> None:
        live = self._turns.replying if isinstance(event, AudioDelta) else None
        if live is not None and isinstance(event, AudioDelta):
            live.sent_samples = event.first_sample + event.samples
        await self._deliver(event)
        if live is not None and isinstance(event, AudioDelta):
            sound_sent(live.listener, event)

    # The turn that is heard.

    def _input(self) -> UserInput:
        """The input of the turn that is heard; the first one of a turn starts it."""
        self._events.touch()
        if self._turns.hearing is None:
            limits = self._settings
            source = UserInput(
                self._terms.input_format, max_audio_s=limits.max_input_s, max_chars=limits.max_input_chars
            )
            self._turns.hearing = self._turns.begin(_new_turn_id(), source, self._terms)
        source = self._turns.hearing.turn.source
        assert isinstance(source, UserInput), "only a user's turn is heard"
        return source

    def _heard_turn_id(self) -> str:
        assert self._turns.hearing is not None, "a turn is heard"
        return self._turns.hearing.turn.turn_id


def _new_turn_id() -> str:
    return f"turn-{secrets.token_hex(8)}"
