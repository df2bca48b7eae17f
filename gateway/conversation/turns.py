"""Who has the floor of a conversation: the turn that is heard, and the reply that runs. A turn's life lies here."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.backend import Backend
from gateway.conversation.context import SessionContext
from gateway.conversation.event_queue import EventQueue
from gateway.conversation.events import Outcome
from gateway.conversation.options import ConversationOptions
from gateway.conversation.playback_clock import PlaybackClock
from gateway.conversation.transcription import Transcriber
from gateway.conversation.turn_metrics import turn_ended, turn_trace
from gateway.conversation.turn_report import done_event, record_of
from gateway.pipeline.requests import TurnPlan
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.tasks import cancel
from services.common.errors import ChromaError, Unavailable
from services.common.rpc import context
from services.common.wire.audio import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)


@dataclass
class LiveTurn:
    """A turn under way."""

    turn: Turn
    task: asyncio.Task[None] = field(init=False)
    terms: ConversationOptions
    change: SessionConfig | None = None
    """Settings for this turn alone."""
    plan: TurnPlan | None = None
    """As the reasoner was told it. None: not told yet."""
    listener: PlaybackClock = field(default_factory=PlaybackClock)
    sent_samples: int = 0
    ending: bool = False
    """Its speech was delivered; it is being recorded and cannot be interrupted any more."""


class ActiveTurns:
    """The turns under way: at most one of each kind, which may overlap."""

    def __init__(self, context: SessionContext, events: EventQueue, transcriber: Transcriber, backend: Backend) -> None:
        self.hearing: LiveTurn | None = None
        self.replying: LiveTurn | None = None
        self._context = context
        self._events = events
        self._transcriber = transcriber
        self._backend = backend
        self._closed = False

    async def drop_hearing(self) -> None:
        """Forget the turn that is heard."""
        if self.hearing is not None:
            dropped, self.hearing = self.hearing, None
            await cancel(dropped.task)

    async def close(self) -> None:
        """Cancel both turns; none begins any more."""
        self._closed = True
        await cancel(*(live.task for live in (self.hearing, self.replying) if live is not None))

    def is_stale(self, live: LiveTurn, terms: ConversationOptions) -> bool:
        """Whether a reply was shortened or given, or settings changed, since the reasoner was told of a turn."""
        session, plan = self._context.session, live.plan
        if plan is not None and (plan.history, plan.config) != (session.turns, session.config):
            return True
        return live.terms.text_only != terms.text_only

    def begin(
        self,
        turn_id: str,
        source: UserInput | ForcedReply,
        terms: ConversationOptions,
        change: SessionConfig | None = None,
    ) -> LiveTurn:
        """Carry a turn from now on. `change` holds settings for it alone. Raises Unavailable once closed."""
        if self._closed:
            raise Unavailable("the conversation has ended")
        limit_s = self._backend.settings.turn_limit_s
        turn = Turn(turn_id, source, self._backend.upstreams, self._events.put, limit_s=limit_s)
        live = LiveTurn(turn, terms, change)
        live.task = asyncio.create_task(self._carry(live, after=self.replying))
        return live

    async def _carry(self, live: LiveTurn, *, after: LiveTurn | None) -> None:
        context.turn_id.set(live.turn.turn_id)
        with turn_trace(live.turn, live.listener):
            await self._carry_through(live, after)

    async def _carry_through(self, live: LiveTurn, after: LiveTurn | None) -> None:
        """A turn from its first input to its end. It starts when the reply `after` has ended: before that, what was
        heard of it is not known."""
        turn = live.turn
        error: ChromaError | None = None
        try:
            async with turn.time_limit():
                if after is not None:
                    await asyncio.wait([after.task])
                live.plan = await self._context.plan(live.terms, live.change)
                await turn.run(live.plan)
                await self._events.delivered()
        except ChromaError as failure:
            error = failure
        except Exception as failure:  # the boundary of a turn: the conversation goes on
            log.exception("the turn failed unexpectedly")
            error = ChromaError(f"the turn failed unexpectedly: {type(failure).__name__}")
        if error is not None:
            await turn.source.committed.wait()  # until then the client has not heard of this turn
        live.ending = True
        outcome = Outcome.COMPLETED if error is None else Outcome.FAILED
        await self._end(live, outcome, heard_samples=turn.samples, error=error)

    async def interrupt(self, played_ms: int | None = None) -> bool:
        """Stop the running reply at once, of which the client played `played_ms`. False if there is none."""
        live = self.replying
        if live is None:
            return False
        if live.ending:
            await asyncio.wait([live.task])
            if played_ms is not None:
                await self._context.shorten(samples_of(played_ms))
            return True
        await cancel(live.task)
        self._events.drop_reply()
        heard = live.sent_samples if played_ms is None else min(live.sent_samples, samples_of(played_ms))
        await self._end(live, Outcome.INTERRUPTED, heard_samples=heard)
        return True

    async def _end(
        self, live: LiveTurn, outcome: Outcome, *, heard_samples: int, error: ChromaError | None = None
    ) -> None:
        turn = live.turn
        is_read = live.plan is not None and live.plan.voice is None
        record = record_of(turn, None if is_read else heard_samples)
        recorded, dropped_turns = False, 0
        if outcome is not Outcome.FAILED:
            recorded, dropped_turns = await self._context.keep(record, forget=turn.dropped_turns)
        done = done_event(
            turn,
            record,
            outcome,
            sent_samples=live.sent_samples,
            error=error,
            recorded=recorded,
            dropped_turns=dropped_turns,
        )
        turn_ended(turn, done, live.listener)
        await self._events.put(done)
        self.replying = None
        if live.terms.transcribe and record.audio():
            self._transcriber.write_down(record)


def samples_of(played_ms: int) -> int:
    """Samples of a reply in so many milliseconds."""
    return played_ms * SAMPLE_RATE_HZ // 1000
