"""Who has the floor of a conversation: the turn that is heard, and the reply that runs. A turn's life lies here."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.clients import Stages
from gateway.events import Outcome
from gateway.listener import Listener
from gateway.memory import Memory
from gateway.outbox import Outbox
from gateway.stage_requests import TurnPlan
from gateway.streams import cancel
from gateway.terms import Terms
from gateway.transcription import Scribe
from gateway.turn import Turn
from gateway.turn_metrics import turn_ended, turn_trace
from gateway.turn_report import done_event, record_of
from gateway.user_input import GivenReply, UserInput
from services.common import context
from services.common.audio import SAMPLE_RATE_HZ
from services.common.errors import ChromaError, Unavailable

log = logging.getLogger(__name__)


@dataclass
class LiveTurn:
    """A turn under way."""

    turn: Turn
    task: asyncio.Task[None] = field(init=False)
    terms: Terms
    change: SessionConfig | None = None
    """Settings for this turn alone."""
    plan: TurnPlan | None = None
    """As the reasoner was told it. None: not told yet."""
    listener: Listener = field(default_factory=Listener)
    sent_samples: int = 0
    ending: bool = False
    """Its speech was delivered; it is being recorded and cannot be interrupted any more."""


class Floor:
    """The turns under way: at most one of each kind, which may overlap."""

    def __init__(self, memory: Memory, outbox: Outbox, scribe: Scribe, stages: Stages) -> None:
        self.hearing: LiveTurn | None = None
        self.replying: LiveTurn | None = None
        self._memory = memory
        self._outbox = outbox
        self._scribe = scribe
        self._stages = stages
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

    def is_stale(self, live: LiveTurn, terms: Terms) -> bool:
        """Whether a reply was shortened or given, or settings changed, since the reasoner was told of a turn."""
        session, plan = self._memory.session, live.plan
        if plan is not None and (plan.history, plan.config) != (session.turns, session.config):
            return True
        return live.terms.text_only != terms.text_only

    def begin(
        self, turn_id: str, source: UserInput | GivenReply, terms: Terms, change: SessionConfig | None = None
    ) -> LiveTurn:
        """Carry a turn from now on. `change` holds settings for it alone. Raises Unavailable once closed."""
        if self._closed:
            raise Unavailable("the conversation has ended")
        live = LiveTurn(Turn(turn_id, source, self._stages, self._outbox.put), terms, change)
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
            if after is not None:
                await asyncio.wait([after.task])
            live.plan = await self._memory.plan(live.terms, live.change)
            await turn.run(live.plan)
            await self._outbox.delivered()
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
                await self._memory.shorten(samples_of(played_ms))
            return True
        await cancel(live.task)
        self._outbox.drop_reply()
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
            recorded, dropped_turns = await self._memory.keep(record, forget=turn.dropped_turns)
            await self._memory.know_voice_as(turn.voice_fingerprint)
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
        await self._outbox.put(done)
        self.replying = None
        if live.terms.transcribe and record.audio():
            self._scribe.write_down(record)


def samples_of(played_ms: int) -> int:
    """Samples of a reply in so many milliseconds."""
    return played_ms * SAMPLE_RATE_HZ // 1000
