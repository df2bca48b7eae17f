"""A conversation: the state machine behind every public API. READ SECOND, after pipeline/turn.py.

    idle --audio, text--> input turn --commit--> reply turn --end of speech--> idle
                             |cancel: dropped       |commit, cancel, say, speech: interrupted (barge-in)

The two turns overlap: the user may speak while a reply plays. With turn detection, speech in the client's audio starts
an input turn, and silence commits it.

An API (gRPC, WebSocket, HTTP) calls the methods for the client's messages from one task, each message once, and holds
`handling` meanwhile. `run`, in a second task, delivers the events in order, and ends a turn whose audio stays away. An
interrupted reply stops at once: its calls are cancelled, its queued text and speech are dropped, and the history keeps
what the user heard. "Heard" has this meaning everywhere: the part of a reply that the user heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.audit import DONE, shortened
from gateway.access.caller import Caller
from gateway.audio.echo import PlayedSpeech
from gateway.conversation.backend import Backend
from gateway.conversation.history.history import History
from gateway.conversation.history.tool_calls import ToolCalls
from gateway.conversation.input.input_audio import InputAudioBuffer
from gateway.conversation.input.input_turn import InputTurn, Recording, new_turn_id
from gateway.conversation.input.open_microphone import OpenMicrophone
from gateway.conversation.options import ConversationOptions, check_change
from gateway.conversation.output.event_queue import EventQueue
from gateway.conversation.output.events import Event, Interrupter, Opened, TurnStarted
from gateway.conversation.output.player import Player
from gateway.conversation.transcripts.transcription import Transcriber
from gateway.conversation.turns.active_turns import ActiveTurns, ShowQuotas, samples_of
from gateway.conversation.turns.session_context import SessionContext
from gateway.metrics import CONVERSATIONS
from gateway.pipeline.erasure.erasure import Erasure
from gateway.pipeline.turn_input import ForcedReply, NoInput
from gateway.store.records import TurnRecord
from gateway.store.sessions import Session
from gateway.store.voices import SpokenVoice
from gateway.tasks import cancel, join
from gateway.text.domain import DomainCheck
from gateway.text.speakable import SpeakableText
from services.common.errors import InvalidArgument, NotFound
from services.common.wire.audio import SAMPLE_RATE_HZ


class Conversation:
    """One client that talks in one session.

    `deliver` sends an event to the client; it may block for a stated time. `voice` is an ephemeral voice, which is in
    no store. `show_quotas` is called for each turn that was counted. `player` plays the replies; None: the client does.
    """

    def __init__(
        self,
        session: Session,
        options: ConversationOptions,
        backend: Backend,
        caller: Caller,
        deliver: Callable[[Event], Awaitable[None]],
        *,
        voice: SpokenVoice | None = None,
        show_quotas: ShowQuotas | None = None,
        player: Player | None = None,
    ) -> None:
        self.options = ConversationOptions()
        """Change them with `set_options`."""
        self._backend = backend
        self._caller = caller
        self._limits = backend.settings
        self.handling = asyncio.Lock()
        """Held while a message of the client is handled: by the API, and here when the audio of the client stops."""
        played = PlayedSpeech(SAMPLE_RATE_HZ)
        self._input_audio = InputAudioBuffer(backend.settings, played)
        self._context = SessionContext(
            session,
            backend.sessions,
            backend.voices,
            backend.settings,
            voice,
            on_voice=self._note_voice,
            make_room=partial(backend.make_room, caller),
        )
        self._events = EventQueue(Opened(session, backend.renders_tools), deliver, backend.settings, played)
        self._transcriber = Transcriber(backend.upstreams_of(caller), backend.settings, self._events)
        talk = self._context, self._events, self._transcriber, backend, caller
        self._turns = ActiveTurns(*talk, show_quotas=show_quotas, player=player)
        audio = self._input_audio, self._transcriber
        self._input = InputTurn(self._turns, self._events, *audio, backend.settings)
        self.history = History(self._context, self._turns, self._input, backend)
        """The turns of the past. The client may edit them."""
        commit, interrupt = partial(self._commit, by="speech"), partial(self.stop_playing, by="speech")
        self._microphone = OpenMicrophone(self._input_audio, self._turns, self._events, self._input, commit, interrupt)
        self.tools = ToolCalls(
            self._context, self._turns, self.inject_reply, max_chars=backend.settings.max_input_chars
        )
        """The calls and results in the history."""
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
            await join(
                self._microphone.end_stopped_turns(self.handling),
                self._input.transcribe_speech(),
                self._tell_of_drain(),
                self._events.run(),
            )
        finally:
            CONVERSATIONS.dec()
            await self._turns.close()
            await self._transcriber.close()
            self._input_audio.close()

    async def finish(self) -> None:
        """End the conversation: drop the input turn, let the running reply end, record it, then end `run`.

        A forced reply ends with the pieces that came: no more will come.
        """
        await self.drop_input()
        if self._forced_reply is not None:
            self._forced_reply.add_text("", end=True)
            self._forced_reply = None
        await self._turns.finish()
        await self._transcriber.finish()
        await self._events.close()

    async def _tell_of_drain(self) -> None:
        """Tell the client once when the gateway drains, and how long the conversation may go on."""
        await self._events.end_in(await self._backend.drain.announced())

    @property
    def left_s(self) -> float:
        """The seconds until the conversation is as long as it may be."""
        return self._events.left_s

    # Settings.

    def set_options(self, options: ConversationOptions) -> None:
        """Use other options from here on. Raises InvalidArgument for turn detection out of range, and for
        another audio format within an input turn."""
        if self._turns.input_turn is not None and options.input_format != self.options.input_format:
            raise InvalidArgument("the audio format cannot change within the user's turn")
        self._input.add_samples(self._input_audio.set_options(options))
        self.options = self._input.options = options

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
        return self._input.has_begun

    @property
    def open_audio_s(self) -> float:
        """Seconds of the audio part under way."""
        return self._input.open_audio_s

    def touch(self) -> None:
        """Count what goes on beside the conversation, such as a reply outside it, as activity: the idle limit starts
        anew."""
        self._events.touch()

    async def append_audio(self, data: bytes) -> None:
        """Add audio in the client's format. With turn detection it may be an endless stream, silence included.

        A message may end within a sample: the next one goes on with it. Raises InvalidArgument when the conversation
        has no audio and, with turn detection, for samples that are no numbers.
        """
        if not (data := self._input_audio.whole_samples(data)):
            self._events.touch()
            return
        if not self._input_audio.detects_turns:
            self._input.check_has_audio()
            self._input.source().add_audio(data)
            return
        self._events.touch()
        await self._microphone.append(data)

    async def add_message(self, parts: Sequence[str | bytes]) -> str:
        """Add a whole message of the user: see `InputTurn.add_message`."""
        return await self._input.add_message(parts)

    def add_text(self, text: str) -> str:
        """Add a text part. Returns the turn's id."""
        return self._input.add_text(text)

    def end_audio(self) -> Recording | None:
        """End the audio part under way: see `InputTurn.end_audio`."""
        return self._input.end_audio()

    async def drop_audio(self) -> None:
        """Drop the audio part under way."""
        await self._input.drop_audio()

    async def drop_input(self) -> None:
        """Drop the input turn."""
        await self._input.drop()

    async def commit(self, *, may_be_empty: bool = False) -> None:
        """End the input turn and start its reply. A running reply is interrupted.

        An empty turn fails. With `may_be_empty` the model speaks first instead: the reply follows the history.
        """
        self.end_audio()
        if may_be_empty and not self._input.has_parts:
            await self._reply_to_history(None)
        else:
            await self._commit()

    async def respond(
        self, change: SessionConfig | None = None, *, history: tuple[TurnRecord, ...] | None = None
    ) -> None:
        """Start a reply to the input so far. A running reply is interrupted.

        The audio part under way is left out: it goes on in an input turn of its own. Without other input the model
        speaks first: the reply follows the history. `change` holds settings for this reply alone. With
        `history` it answers these turns, and not the conversation. Raises InvalidArgument for settings out of range.
        """
        if change is not None:
            check_change(change, max_prompt_chars=self._limits.max_prompt_chars)
        if history is not None or not self._input.has_whole_parts:
            await self._reply_to_history(change, history)
        elif self._input.source().is_audio_open:
            rest = self._input.source().split()
            await self._commit(change, anew=True)
            self._input.begin(rest)
        else:
            await self._commit(change)

    async def _commit(
        self, change: SessionConfig | None = None, *, by: Interrupter = "client", anew: bool = False
    ) -> None:
        """Make the input turn the reply turn. `anew`: what its Think call has sent is not its input any more."""
        source = self._input.source()
        await self._turns.interrupt(by=by)
        live = self._turns.input_turn
        assert live is not None, "the input has begun"
        if anew or change is not None or self._turns.is_stale(live, self.options):
            await cancel(live.task)
            live = self._turns.begin(live.turn.turn_id, source, self.options, change)
        self._turns.input_turn, self._turns.reply_turn = None, live
        await self._events.put(TurnStarted(live.turn.turn_id))
        self._input.count_earlier(source)
        source.commit()
        await asyncio.sleep(0)  # the commit is sent before the client's next message is read

    async def _reply_to_history(
        self, change: SessionConfig | None, history: tuple[TurnRecord, ...] | None = None
    ) -> None:
        """Start a reply turn without input of the user. The input turn goes on, if it has begun."""
        self._events.touch()
        await self._turns.interrupt()
        turn_id = new_turn_id()
        await self._events.put(TurnStarted(turn_id))
        source = NoInput()
        self._input.count_earlier(source)
        self._turns.reply_turn = self._turns.begin(turn_id, source, self.options, change, history)

    # The reply turn.

    @property
    def is_replying(self) -> bool:
        """Whether a reply runs."""
        return self._turns.reply_turn is not None

    async def say(
        self, text: str, *, end: bool, verbatim: bool = False, language: str = "", is_checked: bool = False
    ) -> None:
        """Add a piece to a reply whose text the client gives. The first piece interrupts a running reply. The pieces of
        an interrupted one are ignored up to its end.

        The first piece decides how the text is read: `verbatim`, or made speakable in the language with this BCP 47
        tag, by default the deployment's. `is_checked`: the caller has compared the text with the checkpoint's domain.
        """
        self._events.touch()
        if self._forced_reply is None:
            await self._turns.interrupt()
            speakable = None if verbatim else SpeakableText(language or self._limits.text_language)
            refuses = self._limits.out_of_domain == "refuse" and not is_checked
            domain = self._backend.upstreams.reasoner.domain() if refuses else None
            self._forced_reply = ForcedReply(
                max_chars=self._limits.max_input_chars,
                speakable=speakable,
                check=DomainCheck(domain) if domain else None,
            )
            turn_id = new_turn_id()
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

    async def stop_playing(self, *, by: Interrupter = "client") -> None:
        """Interrupt the running reply, and play no more of those that have ended but are still being played."""
        await self._turns.interrupt(by=by)
        self._turns.silence()

    async def truncate(self, played_ms: int, turn_id: str) -> None:
        """Like `cancel` of a named turn, but returns when the store has no more of the reply than was played.

        Raises Unavailable when the store did not take the change.
        """
        self._events.touch()
        live = self._turns.reply_turn
        if live is not None and turn_id == live.turn.turn_id:
            await self._turns.interrupt(played_ms)
        else:
            await self.history.shorten(samples_of(played_ms), turn_id)

    # The history.

    async def stop_storing(self) -> Erasure | None:
        """Erase the stored session, and keep nothing in the store from here on. The conversation goes on from memory.

        Returns None when nothing was stored. Raises Unavailable when the session could not be erased.
        """
        session_id = await self._context.detach()
        if not session_id:
            return None
        try:
            return await self._backend.eraser.session(self._caller, session_id)
        except NotFound:
            return None  # another connection deleted it, or it expired
        except BaseException:
            self._context.attach(session_id)
            raise

    async def delete_session(self) -> Erasure | None:
        """Stop the running reply, drop the input turn, and erase the stored session: see `stop_storing`."""
        await self.drop_input()
        await self._turns.interrupt()
        return await self.stop_storing()

    async def inject_reply(self, text: str) -> str:
        """Add a reply of the past at the end of the history: see `History.append_reply`."""
        return await self.history.append_reply(text)

    def _note_voice(self, voice_id: str) -> None:
        session = self._context.session
        self._backend.audit.note("voice.use", DONE, self._caller, voice=voice_id, session=shortened(session.session_id))
