"""Many turns on one thinker: what the reasoner's engine runs.

Every step is one of three: one more thought for all that think, some prompt rows (of one or several streams), or
some audio chunks through the tower. Which one comes next is the agenda's choice (agenda.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from services.common.errors import InvalidArgument, ResourceExhausted
from services.reasoner.model.thinker import PREFILL_ROWS, Thinker
from services.reasoner.model.thought_step import ThoughtStep
from services.reasoner.model.tower_step import TowerStep
from services.reasoner.request import Turn
from services.reasoner.scheduler import Scheduler
from services.reasoner.work import Counters, Outputs, ThinkStream, Work
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.stream import End
from services.runtime.graphs.prompt_step import PromptStep
from services.runtime.kvcache.attention_padded import Plan
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.prefix_cache import PrefixCache


class ThinkRunner:
    """A `Runner` (services/runtime/engine/engine.py) for turns of a conversation.

    Args:
        kv: memory of the thinker's stack; its slots bound the turns served at once, its positions a conversation.
        max_thoughts: most thoughts of a reply, whatever a request asks for.
        prefill_rows: most prompt rows of one step.
    """

    def __init__(
        self,
        thinker: Thinker,
        tokenizer: Tokenizer,
        kv: PagedKV,
        *,
        max_thoughts: int,
        prefill_rows: int = PREFILL_ROWS,
    ) -> None:
        self.thinker = thinker
        self.kv = kv
        self.counters = Counters()
        self.prefixes = PrefixCache(kv)
        self.thought_step = ThoughtStep(thinker, kv)
        graphs = self.thought_step.graphs
        self.prompt_step = PromptStep(kv, graphs)
        self.tower_step = TowerStep(thinker.tower, graphs)
        self._tokenizer = tokenizer
        self._max_thoughts = max_thoughts
        self._agenda = Scheduler(kv, prefill_rows)

    def admit(self, stream: ThinkStream) -> None:
        """Give the stream a slot.

        Raises ResourceExhausted when none is free; InvalidArgument for a limit no reply can keep.
        """
        wanted = stream.request.max_thoughts
        if wanted is not None and wanted < 1:
            raise InvalidArgument(f"max_thoughts: expected 1 or more, found {wanted}")
        slot = self.kv.open()
        stream.state = Turn(
            stream.request,
            self.thinker.new_prompt(),
            self._tokenizer,
            slot=slot,
            begin=partial(self._begin, slot),
            im_end_id=self.thinker.tokens.im_end,
            max_thoughts=self._max_thoughts if wanted is None else min(wanted, self._max_thoughts),
            max_positions=self.kv.max_positions,
            opened_s=stream.opened_s,
        )
        self._agenda.add(stream)

    def release(self, stream: ThinkStream) -> None:
        """Free the slot and its pages. Pages kept for later turns are free for any stream that needs them."""
        self._agenda.remove(stream)
        self._keep(stream, ends_here=True)
        self.counters.redone_chunks += stream.state.rows.redone_chunks
        self.kv.close(stream.state.slot)

    def idle_s(self, now_s: float) -> float | None:
        """Only new input, or a reader who catches up, makes work."""
        return None

    def streams_of(self, batch: Work) -> Iterable[ThinkStream]:
        """Everybody with a part in the step."""
        pairs = [*batch.prefill, *batch.hear, *batch.failed]
        return {*batch.think, *(stream for stream, _ in pairs)}

    def describe(self, batch: Work) -> tuple[str, int] | None:
        """Thinking, prefilling, hearing, or only failures."""
        if batch.think:
            return "think", len(batch.think)
        if batch.prefill:
            return "prefill", len(batch.prefill)
        return ("hear", len(batch.hear)) if batch.hear else None

    def schedule(self, now_s: float) -> Work | None:
        """Take in what came, then choose: thoughts, prompt rows or audio."""
        return self._agenda.next_work(now_s)

    def step(self, batch: Work) -> Outputs:
        """One forward pass, or none when there are only failures to tell."""
        outputs: Outputs = [(stream, End(error)) for stream, error in batch.failed]
        if batch.think:
            outputs += self._think(batch.think)
        elif batch.prefill:
            outputs += self._prefill(batch.prefill)
        elif batch.hear:
            encoded = self.tower_step([chunk.clip.features(chunk.index) for _, chunk in batch.hear])
            for (stream, chunk), rows in zip(batch.hear, encoded, strict=True):
                stream.state.rows.keep(chunk, rows)
        return outputs

    def warm_up(self) -> None:
        """One pass of tower, stack and lm_head on the real device, and its graphs. Raises what they raise."""
        self.thought_step.capture()
        self.prompt_step.capture(self.thinker.forward)
        self.tower_step.capture()
        frames = torch.zeros(self.thinker.tower.chunk_frames, self.thinker.mel.bins)
        rows = self.tower_step([frames])[0]
        slot = self.kv.open()
        try:
            self.thinker.choose(self.prompt_step(self.thinker.forward, [rows], self.kv.plan([slot], [len(rows)])))
        finally:
            self.kv.close(slot)

    def _prefill(self, shares: list[tuple[ThinkStream, int]]) -> Outputs:
        starts = {stream: int(self.kv.lengths[stream.state.slot]) for stream, _ in shares}
        shares, plan, outputs = self._plan(shares)
        if plan is None:
            return outputs
        with self._undone_if_it_fails(shares):
            rows = [stream.state.rows.rows(starts[stream], count) for stream, count in shares]
            hidden = self.prompt_step(self.thinker.forward, rows, plan)
        self.counters.prompt_rows += len(hidden)
        ready: list[ThinkStream] = []
        last_rows: list[int] = []
        end = 0
        for stream, count in shares:
            end += count
            turn: Turn = stream.state
            self._keep(stream, ends_here=False)
            if turn.committed and self.kv.lengths[turn.slot] == turn.rows.total:
                ready.append(stream)
                last_rows.append(end - 1)
        if not ready:
            return outputs
        hidden = hidden[torch.tensor(last_rows, device=hidden.device)]
        return outputs + self._conclude(ready, self.thinker.choose(hidden), hidden.cpu())

    def _think(self, streams: list[ThinkStream]) -> Outputs:
        outputs: Outputs = []
        for stream in streams:
            turn: Turn = stream.state
            if turn.waiting_hidden is not None:  # the token of a given reply came after its hidden state
                outputs += self._emit(stream, turn.given_ids.popleft(), turn.waiting_hidden)
        goes_on = [(stream, 1) for stream in streams if stream.state.token_id is not None]
        shares, plan, failed = self._plan(goes_on)
        outputs += failed
        if plan is None:
            return outputs
        with self._undone_if_it_fails(shares):
            chosen, hidden = self.thought_step(plan, [stream.state.token_id for stream, _ in shares])
        return outputs + self._conclude([stream for stream, _ in shares], chosen, hidden)

    @contextmanager
    def _undone_if_it_fails(self, shares: list[tuple[ThinkStream, int]]) -> Iterator[None]:
        """Rows that a failed step did not compute leave the memory again."""
        try:
            yield
        except BaseException:
            for stream, count in shares:
                slot = stream.state.slot
                self.kv.truncate(slot, int(self.kv.lengths[slot]) - count)
            raise

    def _begin(self, slot: int, identities: list[int]) -> int:
        held = self.prefixes.begin(slot, identities)
        self.counters.shared_rows += held
        return held

    def _keep(self, stream: ThinkStream, *, ends_here: bool) -> None:
        """Offer the turn's rows to later turns: those of complete clips, and those of thoughts that were fed."""
        turn: Turn = stream.state
        if not stream.request.keeps_rows:
            return
        identities = [*turn.rows.identities, *turn.token_ids][: int(self.kv.lengths[turn.slot])]
        if ends_here or len(identities) >= turn.kept_rows + self.kv.page_size:
            self.prefixes.keep(turn.slot, identities, ends_here=ends_here)
            turn.kept_rows = len(identities)

    def _plan(
        self, shares: list[tuple[ThinkStream, int]]
    ) -> tuple[list[tuple[ThinkStream, int]], Plan | None, Outputs]:
        """Pages for the step's rows: free ones, then those kept for later turns. When memory is full of rows in use,
        the streams opened last end until the others fit."""
        failed: Outputs = []
        while shares:
            try:
                plan = self.prefixes.plan([stream.state.slot for stream, _ in shares], [count for _, count in shares])
            except ResourceExhausted as error:
                newest = max(shares, key=lambda share: share[0].opened_s)
                shares = [share for share in shares if share is not newest]
                failed.append((newest[0], End(error)))
            else:
                return shares, plan, failed
        return [], None, failed

    def _conclude(self, streams: list[ThinkStream], chosen: list[int], hidden: torch.Tensor) -> Outputs:
        """Thoughts of the tokens chosen from hidden [B, D], on the host; a given reply without its next token keeps
        its state for later."""
        outputs: Outputs = []
        for stream, token_id, state in zip(streams, chosen, hidden, strict=True):
            turn: Turn = stream.state
            if not turn.is_given:
                outputs += self._emit(stream, token_id, state.clone())
            elif turn.given_ids:
                outputs += self._emit(stream, turn.given_ids.popleft(), state.clone())
            else:
                turn.wait_with(state.clone(), time.monotonic())
        return outputs

    def _emit(self, stream: ThinkStream, token_id: int, hidden: torch.Tensor) -> Outputs:
        turn: Turn = stream.state
        thought = turn.emit(token_id, hidden, time.monotonic())
        if thought.last:
            return [(stream, thought), (stream, turn.done()), (stream, End())]
        return [(stream, thought)]
