"""The turns of a conversation that are under way: one takes the user's input, one is replied to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from functools import partial

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.backend import Backend
from gateway.conversation.context import SessionContext
from gateway.conversation.event_queue import EventQueue
from gateway.conversation.events import Event, Outcome
from gateway.conversation.options import ConversationOptions
from gateway.conversation.playback_clock import PlaybackClock
from gateway.conversation.transcription import Transcriber
from gateway.conversation.turn_metrics import turn_ended, turn_trace
from gateway.conversation.turn_report import done_event, record_of
from gateway.pipeline.requests import TurnPlan
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.store.records import TurnRecord
from gateway.tasks import cancel
from services.common.errors import ChromaError, Unavailable
from services.common.rpc import context as call_context
from services.common.wire.audio import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

_MAX_REPORTS = 8
"""Ended turns that wait for the store. With more of them a conversation waits too, which bounds its memory."""


@dataclass(eq=False)
class LiveTurn:
    """A turn under way."""

    turn: Turn
    task: asyncio.Task[None] = field(init=False)
    options: ConversationOptions
    playback: PlaybackClock
    change: SessionConfig | None = None
    """Settings for this turn alone."""
    plan: TurnPlan | None = None
    """The plan of the turn's Think call. None: there is no plan yet."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the history has the turn, or the turn has failed."""


class ActiveTurns:
    """The turns under way, at most one of each kind. They may overlap: the user may speak during a reply.

    A turn ends in two steps. First it leaves `reply_turn` and enters the history in memory: the next turn can begin.
    Then the store records it, beside whatever follows, and its `TurnDone` is sent.
    """

    def __init__(self, context: SessionContext, events: EventQueue, transcriber: Transcriber, backend: Backend) -> None:
        self.input_turn: LiveTurn | None = None
        """The turn that takes the user's input. It is not committed."""
        self.reply_turn: LiveTurn | None = None
        """The committed turn, whose reply is on the way to the client."""
        self._context = context
        self._events = events
        self._transcriber = transcriber
        self._backend = backend
        self._running: set[asyncio.Task[None]] = set()
        self._reports: set[asyncio.Task[Event]] = set()
        self._closed = False

    def begin(
        self,
        turn_id: str,
        source: UserInput | ForcedReply,
        options: ConversationOptions,
        change: SessionConfig | None = None,
    ) -> LiveTurn:
        """Start a turn. `change` holds settings for it alone. Raises Unavailable once closed."""
        if self._closed:
            raise Unavailable("the conversation has ended")
        playback = PlaybackClock()
        emit = partial(self._events.put, playback=playback)
        limit_s = self._backend.settings.turn_limit_s
        turn = Turn(turn_id, source, self._backend.upstreams, emit, limit_s=limit_s)
        live = LiveTurn(turn, options, playback, change)
        live.task = asyncio.create_task(self._run(live, after=self.reply_turn))
        self._running.add(live.task)
        live.task.add_done_callback(self._running.discard)
        return live

    def is_stale(self, live: LiveTurn, options: ConversationOptions) -> bool:
        """Whether the history, the settings or the options changed since the turn's plan was made."""
        session, plan = self._context.session, live.plan
        if plan is not None and (plan.history, plan.config) != (session.turns, session.config):
            return True
        return live.options.text_only != options.text_only

    async def drop_input(self) -> None:
        """Cancel the turn that takes the user's input."""
        if self.input_turn is not None:
            dropped, self.input_turn = self.input_turn, None
            await cancel(dropped.task)

    async def interrupt(self, played_ms: int | None = None) -> bool:
        """Stop the running reply, of which the client played `played_ms`. False if no reply runs.

        The history keeps what the user heard: at most what was sent.
        """
        live = self.reply_turn
        if live is None:
            return False
        await cancel(live.task)
        if live.ended.is_set():
            return True
        self._events.drop_deltas()
        sent = live.playback.sent_samples
        heard_samples = sent if played_ms is None else min(sent, samples_of(played_ms))
        await self._end(live, Outcome.INTERRUPTED, heard_samples=heard_samples)
        return True

    async def finish(self) -> None:
        """Wait until the running reply has ended and every ended turn is recorded and reported."""
        while waiting := self._running | self._reports:
            await asyncio.wait(waiting)
        await self._context.written()

    async def close(self) -> None:
        """Cancel the turns and wait until every ended turn is recorded. No turn begins any more."""
        self._closed = True
        await cancel(*self._running)
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
                    if after is not None:
                        await after.ended.wait()
                    live.plan = await self._context.plan(live.options, live.change)
                    await turn.run(live.plan)
                    await self._events.delivered()
            except ChromaError as failure:
                error = failure
            except Exception as failure:  # the boundary of a turn: the conversation goes on
                log.exception("the turn failed unexpectedly")
                error = ChromaError(f"the turn failed unexpectedly: {type(failure).__name__}")
            if error is not None:
                await turn.source.committed.wait()  # until then the client does not know this turn
        outcome = Outcome.COMPLETED if error is None else Outcome.FAILED
        await self._end(live, outcome, heard_samples=turn.samples, error=error)

    async def _end(
        self, live: LiveTurn, outcome: Outcome, *, heard_samples: int, error: ChromaError | None = None
    ) -> None:
        """End the turn in memory at once, and have it recorded and reported beside the conversation."""
        turn = live.turn
        is_read = live.plan is not None and live.plan.voice is None
        record = record_of(turn, None if is_read else heard_samples)
        dropped_turns, recorded = 0, None
        if outcome is not Outcome.FAILED:
            dropped_turns, recorded = self._context.add_turn(record, drop_oldest=turn.dropped_turns)
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
        recorded: Awaitable[bool] | None,
    ) -> Event:
        """Wait for the store, count and log the turn, and return its last event."""
        turn = live.turn
        call_context.turn_id.set(turn.turn_id)
        is_recorded = await recorded if recorded is not None else False
        done = done_event(
            turn,
            record,
            outcome,
            sent_samples=live.playback.sent_samples,
            error=error,
            recorded=is_recorded,
            dropped_turns=dropped_turns,
        )
        turn_ended(turn, done, live.playback)
        if live.options.transcribe and record.audio():
            self._transcriber.add(record)
        return done


def samples_of(played_ms: int) -> int:
    """Return the number of samples that a reply has in `played_ms`."""
    return played_ms * SAMPLE_RATE_HZ // 1000
