"""What the reasoner does next, among the turns it has.

Every step is one of three: one more thought for all that think, some prompt rows (of one or several streams), or
some audio chunks through the tower. Turns that wait for their first thought come before turns still being spoken;
when the earliest of their thoughts is nearly due, steps alternate: neither a long prompt nor a crowd of thinkers
holds up the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from services.common.errors import ChromaError, InvalidArgument
from services.reasoner.model.tower_step import MAX_CHUNKS
from services.reasoner.request import SLICE_SAMPLES, Turn
from services.reasoner.work import ThinkStream, Work, has_input
from services.runtime.kvcache.paged_kv import PagedKV

DUE_SOON_S = 1.0
"""A thought needed within this time is not kept waiting behind prompts."""

INTAKE_SAMPLES = 8 * SLICE_SAMPLES
"""Audio worked off between two steps, 16 s, so that uploaded files hold up nobody for long. Not counted in pieces: a
microphone's are short and many."""


class Scheduler:
    """The admitted streams, each with its `Turn`, and the order of their work.

    Args:
        kv: memory of the thinker's stack, which says how many rows of a turn are computed.
        prefill_rows: most prompt rows of one step.
    """

    def __init__(self, kv: PagedKV, prefill_rows: int) -> None:
        self._kv = kv
        self._prefill_rows = prefill_rows
        self._streams: deque[ThinkStream] = deque()
        self._thought_last = False

    def add(self, stream: ThinkStream) -> None:
        """A stream was admitted."""
        self._streams.append(stream)

    def remove(self, stream: ThinkStream) -> None:
        """It has left."""
        self._streams.remove(stream)

    def next_work(self, now_s: float) -> Work | None:
        """Take in what came, then choose: thoughts, prompt rows or audio. None: there is nothing to do."""
        while True:
            work = Work(failed=self._take_inputs(now_s))
            self._choose(work, now_s)
            if work.think or work.prefill or work.hear or work.failed:
                return work
            if not any(has_input(stream) for stream in self._streams):
                return None

    def _take_inputs(self, now_s: float) -> list[tuple[ThinkStream, ChromaError]]:
        """Turn some of what was fed into prompt rows, each stream in its turn. Returns streams with wrong input."""
        failed: list[tuple[ThinkStream, ChromaError]] = []
        budget = INTAKE_SAMPLES
        for _ in range(len(self._streams)):
            stream = self._streams[0]
            self._streams.rotate(-1)
            if not has_input(stream):
                continue
            turn: Turn = stream.state
            try:
                while budget > 0 and has_input(stream):
                    if turn.has_backlog:
                        budget -= turn.advance()
                    elif stream.inbox:
                        turn.take(stream.take_input(), now_s)
                    else:
                        turn.end_input()
                self._cut_back(turn)
            except ChromaError as error:
                failed.append((stream, error))
            if budget <= 0:
                break
        return failed

    def _cut_back(self, turn: Turn) -> None:
        """Forget computed rows that must be computed again: those that a louder part changed, and the last row of the
        prompt when it was computed before the commit, which added none. The first thought is read from it."""
        if self._rows_to_prefill(turn) < 0:
            self._kv.truncate(turn.slot, turn.rows.settled)
        if turn.committed and turn.heard is None and self._kv.lengths[turn.slot] == turn.rows.total:
            if not turn.rows.total:
                raise InvalidArgument("the chat template renders nothing for this turn: expected at least one token")
            self._kv.truncate(turn.slot, turn.rows.total - 1)

    def _choose(self, work: Work, now_s: float) -> None:
        failed = {stream for stream, _ in work.failed}
        thinkers: list[ThinkStream] = []
        listeners: list[ThinkStream] = []
        for stream in self._streams:
            if stream in failed:
                continue
            if stream.state.can_think:
                if stream.has_room:
                    thinkers.append(stream)
            elif self._has_prompt_work(stream.state):
                listeners.append(stream)
        due_soon = any(stream.state.due_s() < now_s + DUE_SOON_S for stream in thinkers)
        listeners.sort(key=lambda stream: stream.state.urgency())
        if thinkers and (not listeners or (due_soon and not self._thought_last)):
            work.think = thinkers
        elif listeners and self._rows_to_prefill(listeners[0].state):
            work.prefill = self._share_out(listeners)
        elif listeners:
            stale = ((stream, chunk) for stream in listeners for chunk in stream.state.rows.stale_chunks())
            work.hear = list(islice(stale, MAX_CHUNKS))
        self._thought_last = bool(work.think)

    def _rows_to_prefill(self, turn: Turn) -> int:
        """Settled prompt rows less those in memory; none once the turn thinks, when memory holds thoughts as well."""
        return 0 if turn.thoughts else turn.rows.settled - int(self._kv.lengths[turn.slot])

    def _has_prompt_work(self, turn: Turn) -> bool:
        """Whether rows or chunks wait. Audio still in the backlog is heard first: it may be louder."""
        return not turn.has_backlog and (self._rows_to_prefill(turn) > 0 or turn.rows.settled < turn.rows.total)

    def _share_out(self, listeners: Sequence[ThinkStream]) -> list[tuple[ThinkStream, int]]:
        """Rows of the step for the most urgent, then for others while there is room."""
        left = self._prefill_rows
        shares: list[tuple[ThinkStream, int]] = []
        for stream in listeners:
            count = min(left, self._rows_to_prefill(stream.state))
            if count > 0:
                shares.append((stream, count))
                left -= count
        return sorted(shares, key=lambda share: share[1])
