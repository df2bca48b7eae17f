"""The turns of a conversation that are under way: one takes the user's input, one is replied to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.caller import Caller
from gateway.access.quotas import Quota, Reserved
from gateway.conversation.backend import Backend
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.event_queue import EventQueue
from gateway.conversation.output.events import Event, Interrupter, Outcome
from gateway.conversation.output.playback_clock import PlaybackClock
from gateway.conversation.output.player import Player
from gateway.conversation.transcripts.transcription import Transcriber
from gateway.conversation.turns.session_context import Recording, SessionContext
from gateway.conversation.turns.turn_metrics import turn_ended, turn_trace
from gateway.conversation.turns.turn_report import done_event, record_of
from gateway.pipeline.requests import TurnPlan
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import TurnInput
from gateway.store.records import TurnRecord
from gateway.tasks import cancel, join
from services.common.errors import ChromaError, Unavailable
from services.common.rpc import context as call_context
from services.common.wire.audio import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

_MAX_REPORTS = 8
"""Ended turns that wait for the store. With more of them a conversation waits too, which bounds its memory."""


ShowQuotas = Callable[[str, list[Quota]], None]
"""Takes the id of a turn that was counted, and what is left of the caller's limits."""


@dataclass(eq=False)
class LiveTurn:
    """A turn under way."""

    turn: Turn
    task: asyncio.Task[None] = field(init=False)
    options: ConversationOptions
    playback: PlaybackClock
    change: SessionConfig | None = None
    """Settings for this turn alone."""
    history: tuple[TurnRecord, ...] | None = None
    """The turns that it answers. None: those of the session."""
    plan: TurnPlan | None = None
    """The plan of the turn's Think call. None: there is no plan yet."""
    interrupted_by: Interrupter | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the history has the turn, or the turn has failed."""


class ActiveTurns:
    """The turns under way, at most one of each kind. They may overlap: the user may speak during a reply.

    A turn ends in two steps. First it leaves `reply_turn` and enters the history in memory: the next turn can begin.
    Then the store records it, beside whatever follows, and its `TurnDone` is sent.
    """

    def __init__(
        self,
        context: SessionContext,
        events: EventQueue,
        transcriber: Transcriber,
        backend: Backend,
        caller: Caller,
        show_quotas: ShowQuotas | None = None,
        player: Player | None = None,
    ) -> None:
        self.input_turn: LiveTurn | None = None
        """The turn that takes the user's input. It is not committed."""
        self.reply_turn: LiveTurn | None = None
        """The committed turn, whose reply is on the way to the client."""
        self._context = context
        self._events = events
        self._transcriber = transcriber
        self._backend = backend
        self._caller = caller
        self._upstreams = backend.upstreams_of(caller)
        self._show_quotas = show_quotas
        self._player = player
        """What plays the replies. None: the client plays them."""
        self._counting: dict[str, asyncio.Task[None]] = {}
        """The count of each turn under way, by its id. A turn that begins again with other settings is counted once."""
        self._running: set[asyncio.Task[None]] = set()
        self._counts: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        """Those of the counts that count the audio of an ended turn."""
        self._reports: set[asyncio.Task[Event]] = set()
        self._closed = False

    def begin(
        self,
        turn_id: str,
        source: TurnInput,
        options: ConversationOptions,
        change: SessionConfig | None = None,
        history: tuple[TurnRecord, ...] | None = None,
    ) -> LiveTurn:
        """Start a turn. `change` holds settings for it alone, `history` what it answers in the place of the session's
        history. Raises Unavailable once closed."""
        if self._closed:
            raise Unavailable("the conversation has ended")
        playback = PlaybackClock(source.complete.is_set)
        emit = partial(self._events.put, playback=playback)
        settings = self._backend.settings
        turn = Turn(
            turn_id,
            source,
            self._upstreams,
            emit,
            limit_s=settings.turn_limit_s,
            input_idle_s=settings.input_idle_s,
        )
        live = LiveTurn(turn, options, playback, change, history)
        live.task = asyncio.create_task(self._run(live, after=self.reply_turn))
        self._running.add(live.task)
        live.task.add_done_callback(self._running.discard)
        return live

    def is_stale(self, live: LiveTurn, options: ConversationOptions) -> bool:
        """Whether the history, the settings or the options changed since the turn's plan was made."""
        session, plan = self._context.session, live.plan
        if plan is not None and (plan.history, plan.config) != (session.turns, session.config):
            return True
        before = live.options
        return (before.text_only, before.max_output_tokens) != (options.text_only, options.max_output_tokens)

    async def drop_input(self) -> None:
        """Cancel the turn that takes the user's input."""
        if self.input_turn is not None:
            dropped, self.input_turn = self.input_turn, None
            await cancel(dropped.task)
            self._end_count(dropped.turn, 0.0)

    def release_input(self) -> None:
        """Let the input turn go, of which nothing is left to be done. Its audio is counted."""
        assert self.input_turn is not None, "an input turn has begun"
        released, self.input_turn = self.input_turn, None
        released.task.cancel()
        self._end_count(released.turn, 0.0)

    async def interrupt(self, played_ms: int | None = None, *, by: Interrupter = "client") -> bool:
        """Stop the running reply, of which the client played `played_ms`. False if no reply runs.

        The history keeps what the user heard: at most what was sent.
        """
        live = self.reply_turn
        if live is None:
            return False
        live.interrupted_by = by
        await cancel(live.task)
        if live.ended.is_set():
            return True
        self._events.drop_deltas()
        was_played_ms = self.silence(live.turn.turn_id)
        played_ms = was_played_ms if played_ms is None else played_ms
        sent = live.playback.sent_samples
        heard_samples = sent if played_ms is None else min(sent, samples_of(played_ms))
        await self._end(live, Outcome.INTERRUPTED, heard_samples=heard_samples)
        return True

    def silence(self, turn_id: str = "") -> int | None:
        """Play no more of any reply. The history keeps of each reply that has ended what was played.

        Returns how much was played of the reply of this turn, in milliseconds. None: the client plays the replies.
        """
        if self._player is None:
            return None
        played_ms = self._player.stop(turn_id)
        running_ms = played_ms.pop(turn_id, None)
        for ended, heard_ms in played_ms.items():
            self._context.shorten(samples_of(heard_ms), ended)
        return running_ms

    async def finish(self) -> None:
        """Wait until the running reply has ended and every ended turn is recorded and reported."""
        while waiting := self._running | self._reports | self._counts:
            await asyncio.wait(waiting)
        await self._context.written()

    async def close(self) -> None:
        """Cancel the turns and wait until every ended turn is recorded. No turn begins any more."""
        self._closed = True
        await self.drop_input()
        await cancel(*self._running)
        if (live := self.reply_turn) is not None and not live.ended.is_set():
            self._end_count(live.turn, live.playback.sent_samples / SAMPLE_RATE_HZ)  # the client has hung up
        await self.finish()

    async def _run(self, live: LiveTurn, *, after: LiveTurn | None) -> None:
        """Run a turn from its first input to its end. It starts when the reply `after` has ended: before that, the
        history does not say what the user heard of it."""
        turn = live.turn
        error: ChromaError | None = None
        call_context.turn_id.set(turn.turn_id)
        with turn_trace(turn, live.playback):
            try:
                async with turn.calls.time_limit():
                    await join(self._count(turn), self._reply(live, after))
            except ChromaError as failure:
                error = failure
            except Exception:  # the boundary of a turn: the conversation goes on
                log.exception("the turn failed unexpectedly")
                error = ChromaError("the turn failed unexpectedly: the server's log says why")
            if error is not None:
                await turn.source.committed.wait()  # until then the client does not know this turn
        outcome = Outcome.COMPLETED if error is None else Outcome.FAILED
        await self._end(live, outcome, heard_samples=turn.samples, error=error)

    async def _reply(self, live: LiveTurn, after: LiveTurn | None) -> None:
        if after is not None:
            await after.ended.wait()
        if not live.options.replies:
            await asyncio.Event().wait()  # the turn ends with the conversation
        live.plan = await self._context.plan(live.options, live.change)
        if live.history is not None:
            live.plan = replace(live.plan, history=live.history)
        await live.turn.run(live.plan)
        await self._events.delivered()

    async def _count(self, turn: Turn) -> None:
        """Count the turn. It runs meanwhile, so that no turn waits for a slow store.

        When other turns have reserved what is left of the caller's audio, the turn is counted once more at its commit:
        the running reply of this conversation ends then. Raises ResourceExhausted when the caller has no turn left.
        """
        try:
            await asyncio.shield(self._counting.get(turn.turn_id) or self._begin_count(turn.turn_id))
        except Reserved:
            await turn.source.committed.wait()
            if self._ending:
                await asyncio.wait(self._ending)
            await asyncio.shield(self._begin_count(turn.turn_id))

    def _begin_count(self, turn_id: str) -> asyncio.Task[None]:
        counting = self._counting[turn_id] = self._beside(self._begin_counted(turn_id))
        return counting

    async def _begin_counted(self, turn_id: str) -> None:
        quotas = await self._backend.usage.begin_turn(self._caller, turn_id)
        if self._show_quotas is not None and quotas:
            self._show_quotas(turn_id, quotas)

    def _end_count(self, turn: Turn, output_s: float) -> asyncio.Task[None]:
        """Count the audio of a turn that has ended or is dropped, beside the conversation, once the turn is counted."""
        counting = self._counting.pop(turn.turn_id, None)
        ending = self._beside(self._count_audio(turn, counting, output_s))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    async def _count_audio(self, turn: Turn, counting: asyncio.Task[None] | None, output_s: float) -> None:
        if counting is not None:
            await asyncio.wait([counting])
        input_s = turn.source.take_uncounted_s()
        await self._backend.usage.end_turn(self._caller, turn.turn_id, input_s=input_s, output_s=output_s)

    def _beside(self, count: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Count something in a task of its own, which outlives its turn and which `finish` waits for."""
        counting = asyncio.create_task(count)
        self._counts.add(counting)
        counting.add_done_callback(self._counts.discard)
        counting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return counting

    async def _end(
        self, live: LiveTurn, outcome: Outcome, *, heard_samples: int, error: ChromaError | None = None
    ) -> None:
        """End the turn in memory at once, and have it recorded and reported beside the conversation."""
        turn = live.turn
        is_read = live.plan is not None and live.plan.voice is None
        record = record_of(turn, None if is_read else heard_samples)
        dropped_turns, recorded = 0, None
        if outcome is not Outcome.FAILED:
            dropped_turns, recorded = self._context.add_turn(
                record, drop_oldest=0 if live.history else turn.dropped_turns
            )
        self.reply_turn = None
        live.ended.set()
        report = asyncio.create_task(self._report(live, record, outcome, error, dropped_turns, recorded))
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)
        await self._events.put_when_ready(report)
        while len(self._reports) > _MAX_REPORTS:
            await asyncio.wait(self._reports, return_when=asyncio.FIRST_COMPLETED)

    async def _report(
        self,
        live: LiveTurn,
        record: TurnRecord,
        outcome: Outcome,
        error: ChromaError | None,
        dropped_turns: int,
        recorded: Awaitable[Recording] | None,
    ) -> Event:
        """Wait for the store, count and log the turn, and return its last event."""
        turn = live.turn
        is_spoken = live.plan is not None and live.plan.voice is not None
        counting = self._end_count(turn, live.playback.sent_samples / SAMPLE_RATE_HZ)
        call_context.turn_id.set(turn.turn_id)
        recording = await recorded if recorded is not None else Recording.NOT_KEPT
        done = done_event(
            turn,
            record,
            outcome,
            sent_samples=live.playback.sent_samples,
            error=error,
            interrupted_by=live.interrupted_by if outcome is Outcome.INTERRUPTED else None,
            recorded=recording is Recording.RECORDED,
            dropped_turns=dropped_turns,
            domain=self._backend.upstreams.reasoner.domain(turn.checkpoint) if is_spoken else None,
        )
        turn_ended(turn, done, live.playback, unrecorded=recording is Recording.UNRECORDED)
        await asyncio.wait([counting])
        if live.options.transcribe and record.audio():
            self._transcriber.add(record)
        return done


def samples_of(played_ms: int) -> int:
    """Return the number of samples that a reply has in `played_ms`."""
    return played_ms * SAMPLE_RATE_HZ // 1000
