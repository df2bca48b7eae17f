"""A conversation: the state machine behind every public API. READ SECOND, after pipeline/turn.py.

    idle --audio, text--> input turn --commit--> reply turn --end of speech--> idle
                             |cancel: dropped       |commit, cancel, say, speech: interrupted (barge-in)

The two turns overlap: the user may speak while a reply plays. With turn detection, speech in the client's audio starts
an input turn, and silence commits it.

An API (gRPC, WebSocket, HTTP) calls the methods for the client's messages from one task, each message once. `run`, in a
second task, delivers the events in order. An interrupted reply stops at once: its calls are cancelled, its queued text
and speech are dropped, and the history keeps what the user heard. "Heard" has this meaning everywhere: the part of a
reply that the user heard.
"""

from __future__ import annotations

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
from gateway.conversation.turn_report import injected_record
from gateway.conversation.turns import ActiveTurns, samples_of
from gateway.conversation.vad import Started, Stopped
from gateway.metrics import CONVERSATIONS
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.store.sessions import Session
from gateway.store.voices import SpokenVoice
from gateway.tasks import cancel
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.wire.pcm import Samples


class Conversation:
    """One client that talks in one session.

    `deliver` sends an event to the client; it may block for a stated time. `voice` is an ephemeral voice, which is in
    no store.
    """

    def __init__(
        self,
        session: Session,
        options: ConversationOptions,
        backend: Backend,
        deliver: Callable[[Event], Awaitable[None]],
        *,
        voice: SpokenVoice | None = None,
    ) -> None:
        self.options = ConversationOptions()
        """Change them with `set_options`."""
        self._backend = backend
        self._limits = backend.settings
        self._input_audio = InputAudioBuffer()
        self._context = SessionContext(session, backend.sessions, backend.voices, backend.settings, voice)
        self._events = EventQueue(Opened(session), deliver, backend.settings)
        self._transcriber = Transcriber(backend.upstreams, backend.settings, self._events)
        self._turns = ActiveTurns(self._context, self._events, self._transcriber, backend)
        self._forced_reply: ForcedReply | None = None
        """The forced reply whose last piece has not come. None: there is none."""
        self.set_options(options)

    async def run(self) -> None:
        """Deliver events until `finish`. When it ends, for any reason, no task or call of the conversation is left.

        Raises:
            DeadlineExceeded: the conversation was idle or open for too long, or the client takes no event.
        """
        CONVERSATIONS.inc()
        try:
            await self._events.run()
        finally:
            CONVERSATIONS.dec()
            await self._turns.close()
            await self._transcriber.close()

    async def finish(self) -> None:
        """End the conversation: drop the input turn, let the running reply end, record it, then end `run`."""
        await self.drop_input()
        await self._turns.finish()
        await self._transcriber.finish()
        await self._events.close()

    # Settings.

    def set_options(self, options: ConversationOptions) -> None:
        """Use other options from here on. Raises InvalidArgument for turn detection out of range, and for
        another audio format within an input turn."""
        if self._turns.input_turn is not None and options.input_format != self.options.input_format:
            raise InvalidArgument("the audio format cannot change within the user's turn")
        self._add_samples(self._input_audio.set_options(options))
        self.options = options

    async def configure(self, change: SessionConfig) -> None:
        """Change the session's settings, from the next turn on. Raises InvalidArgument, NotFound (the session or the
        voice), Unavailable."""
        self._events.touch()
        await self._backend.check_change(self._context.session.tenant, change)
        await self._context.configure(change)

    # The input turn.

    @property
    def has_input(self) -> bool:
        """Whether an input turn has begun."""
        return self._turns.input_turn is not None

    async def append_audio(self, data: bytes) -> None:
        """Add audio in the client's format. With turn detection it may be an endless stream, silence included.

        Raises InvalidArgument when the conversation has no audio and, with turn detection, for broken samples.
        """
        if not self._input_audio.detects_turns:
            self._audio_input().add_audio(data)
            return
        self._events.touch()
        for samples in await self._input_audio.decode(data):
            for found in await self._input_audio.detect(samples):
                await self._take(found)

    async def _take(self, found: Started | Samples | Stopped) -> None:
        """Handle the start, a piece or the end of the user's speech."""
        detection = self.options.turn_detection
        assert detection is not None, "turn detection is on"
        if isinstance(found, Started):
            if detection.interrupt:
                await self._turns.interrupt()
            self._input()
            await self._events.put(SpeechStarted(self._input_turn_id(), found.at_ms))
        elif isinstance(found, Stopped):
            self._input().end_audio()
            await self._events.put(SpeechStopped(self._input_turn_id(), found.at_ms))
            if detection.respond:
                await self.commit()
        else:
            self._add_samples(found)

    def add_recording(self, data: bytes) -> str:
        """Add a whole recording, in the client's format, as one part. Turn detection ignores it. Returns the turn's id.
        Raises InvalidArgument when the conversation has no audio."""
        source = self._audio_input()
        source.end_audio()
        source.add_audio(data)
        source.end_audio()
        return self._input_turn_id()

    def add_text(self, text: str) -> str:
        """Add a text part. Returns the turn's id."""
        self._input().add_text(text)
        return self._input_turn_id()

    def end_audio(self) -> str:
        """End the audio part under way; later audio is another part of the same turn. Returns the turn's id, or an
        empty string if there is no audio part."""
        if self._turns.input_turn is None:
            return ""
        self._add_samples(self._input_audio.cut())
        return self._input_turn_id() if self._input().end_audio() else ""

    async def drop_audio(self) -> None:
        """Drop the audio part under way."""
        self._input_audio.cut()
        if self._turns.input_turn is None:
            return
        source, turn_id = self._input(), self._input_turn_id()
        source.drop_audio()
        await self.drop_input()
        if source.parts:  # the reasoner gets the parts that are left from the beginning
            self._turns.input_turn = self._turns.begin(turn_id, source, self.options)

    async def drop_input(self) -> None:
        """Drop the input turn."""
        self._input_audio.cut()
        await self._turns.drop_input()

    async def commit(self, change: SessionConfig | None = None) -> None:
        """End the input turn and start its reply. A running reply is interrupted. `change` holds settings for this
        reply alone."""
        source = self._input()
        self.end_audio()
        await self._turns.interrupt()
        live = self._turns.input_turn
        assert live is not None, "the input has begun"
        if change is not None or self._turns.is_stale(live, self.options):
            await cancel(live.task)
            live = self._turns.begin(live.turn.turn_id, source, self.options, change)
        self._turns.input_turn, self._turns.reply_turn = None, live
        await self._events.put(TurnStarted(live.turn.turn_id))
        source.commit()

    # The reply turn.

    @property
    def is_replying(self) -> bool:
        """Whether a reply runs."""
        return self._turns.reply_turn is not None

    async def say(self, text: str, *, end: bool) -> None:
        """Add a piece to a reply whose text the client gives. The first piece interrupts a running reply. The pieces of
        an interrupted one are ignored up to its end."""
        self._events.touch()
        if self._forced_reply is None:
            await self._turns.interrupt()
            self._forced_reply = ForcedReply(max_chars=self._limits.max_input_chars)
            turn_id = _new_turn_id()
            await self._events.put(TurnStarted(turn_id))
            self._turns.reply_turn = self._turns.begin(turn_id, self._forced_reply, self.options)
        self._forced_reply.add_text(text, end=end)
        if end:
            self._forced_reply = None

    async def cancel(self, played_ms: int | None = None, turn_id: str = "") -> None:
        """Interrupt the running reply, of which the client played `played_ms`.

        If no reply runs, or not that of `turn_id`: with `played_ms`, the history keeps only that much of the last
        reply, or of the named one; without it, the input turn is dropped unless a turn is named.
        """
        self._events.touch()
        live = self._turns.reply_turn
        if live is not None and turn_id in ("", live.turn.turn_id):
            await self._turns.interrupt(played_ms)
        elif played_ms is not None:
            self._context.shorten(samples_of(played_ms), turn_id)
        elif not turn_id:
            await self.drop_input()

    # The history.

    async def inject_reply(self, text: str) -> str:
        """Add a reply of the past to the history, as the answer to the input so far. Returns the turn's id.

        Raises FailedPrecondition while a reply runs.
        """
        if self._turns.reply_turn is not None:
            raise FailedPrecondition("history cannot be added while a reply runs")
        self._input()
        self.end_audio()
        assert self._turns.input_turn is not None, "the input has begun"
        turn = self._turns.input_turn.turn
        await self.drop_input()
        _, written = self._context.add_turn(injected_record(turn, text))
        await written
        return turn.turn_id

    async def remove(self, turn_id: str, *, user: bool) -> bool:
        """Remove the user's side of a turn, or its reply, from the history or from the input turn. A running reply is
        interrupted first. False if there is no such turn."""
        if self._turns.input_turn is not None and self._input_turn_id() == turn_id:
            await self.drop_input()
            return True
        if self._turns.reply_turn is not None and self._turns.reply_turn.turn.turn_id == turn_id:
            await self._turns.interrupt()
        return await self._context.remove(turn_id, user=user)

    # The input of the input turn.

    def _input(self) -> UserInput:
        """The input turn's input. The first input starts the turn."""
        self._events.touch()
        if self._turns.input_turn is None:
            limits = self._limits
            source = UserInput(
                self.options.input_format, max_audio_s=limits.max_input_s, max_chars=limits.max_input_chars
            )
            self._turns.input_turn = self._turns.begin(_new_turn_id(), source, self.options)
        source = self._turns.input_turn.turn.source
        assert isinstance(source, UserInput), "an input turn takes the user's input"
        return source

    def _audio_input(self) -> UserInput:
        if self.options.input_format is None:
            raise InvalidArgument("expected no audio: `open` gave no `input_format`")
        return self._input()

    def _add_samples(self, samples: Samples) -> None:
        if len(samples):
            self._input().add_samples(samples)

    def _input_turn_id(self) -> str:
        assert self._turns.input_turn is not None, "an input turn has begun"
        return self._turns.input_turn.turn.turn_id


def _new_turn_id() -> str:
    return f"turn-{secrets.token_hex(8)}"
