"""The runner of the reasoner: many turns on one thinker. It joins the scheduler, the model and the KV memory.

`scheduler.py` says which requests do what in a step. `request.py` is the state of one of them, and `request_memory.py`
gives them pages.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

import torch

from services.common.errors import ChromaError, InvalidArgument
from services.common.settings import PREFILL_POSITIONS
from services.common.wire.audio import HEARING_RATE_HZ
from services.reasoner.messages import TurnOpen, TurnOutput
from services.reasoner.model.prompt_embeddings import DirtyChunk
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.thought_step import ThoughtStep
from services.reasoner.model.tower_step import TowerStep
from services.reasoner.request import Request, ThinkStream
from services.reasoner.request_memory import RequestMemory, Shares
from services.reasoner.scheduler import Batch, Scheduler, has_input
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.failures import NotFinite
from services.runtime.engine.stream import End
from services.runtime.kvcache.forgotten import Forgotten
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.prompt_step import PromptStep

INTAKE_SAMPLES = 16 * HEARING_RATE_HZ
"""Audio worked off in one intake, so that uploaded files do not delay others for long. Samples are counted, not
messages: those of a microphone are short and many."""

Outputs = list[tuple[ThinkStream, TurnOutput | End]]


class ThinkRunner:
    """A `Runner` (services/runtime/engine/runner.py) for turns of a conversation.

    Args:
        kv: memory of the thinker's stack. Its slots bound the turns served at once. Its positions and its pages bound
            a conversation with its reply.
        max_thoughts: most thoughts of a reply, whatever a request asks for.
        max_prefill: most prompt positions of one step.
        low_priority_slots: those slots of `kv` that only turns of low priority use. Such turns use no others.
    """

    def __init__(
        self,
        thinker: Thinker,
        tokenizer: Tokenizer,
        kv: PagedKV,
        *,
        max_thoughts: int,
        max_prefill: int = PREFILL_POSITIONS,
        low_priority_slots: int = 0,
    ) -> None:
        self.thinker = thinker
        self.kv = kv
        most_of_a_kind = max(low_priority_slots, kv.slots - low_priority_slots)
        self.thought_step = ThoughtStep(thinker, kv, max_streams=most_of_a_kind)
        graphs = self.thought_step.graphs
        self.prompt_step = PromptStep(kv, graphs)
        self.tower_step = TowerStep(thinker.tower, graphs)
        self._tokenizer = tokenizer
        self._max_thoughts = max_thoughts
        self.max_positions = min(kv.max_positions, kv.pages * kv.page_size)
        """Most positions of a conversation with its reply: those that a single request always gets."""
        self._scheduler = Scheduler(kv, max_prefill, low_priority_slots)
        self._memory = RequestMemory(kv, self._scheduler)
        self.prefixes = self._memory.prefixes
        self.counters = self._memory.counters
        self._forgotten_sessions = Forgotten()
        self._forgotten_scopes = Forgotten()

    def admit(self, stream: ThinkStream) -> None:
        """Give the stream a slot.

        Raises ResourceExhausted when no slot is free, or when an admitted request already waits for KV memory;
        InvalidArgument for a limit below one thought.
        """
        wanted = stream.request.max_thoughts
        if wanted is not None and wanted < 1:
            raise InvalidArgument(f"max_thoughts: expected 1 or more, found {wanted}")
        self._scheduler.check_room(low_priority=stream.request.low_priority)
        slot = self.kv.open()
        try:
            stream.state = self._new_request(stream, slot)
        except BaseException:
            self.kv.close(slot)
            raise
        self._scheduler.add(stream)

    def free_slots(self) -> int:
        """Slots that the next turns can have. Those of low priority do not count."""
        return self._scheduler.free_slots()

    def release(self, stream: ThinkStream) -> None:
        """Free the slot and its pages. Pages kept for later turns are free for every stream that needs them."""
        request: Request = stream.state
        self._scheduler.remove(stream)
        self.counters.recomputed_chunks += request.recomputed_chunks
        try:
            self._memory.keep_prefix(request, ends_here=True)
        finally:
            self.kv.close(request.slot)
            if request.erase_at_end:
                self.kv.erase_free_pages()

    def forget_session(self, session_id: str) -> None:
        """Remove what was kept of a session and overwrite its memory. Its running turns keep nothing.

        Nothing of it is kept for ten minutes, so a turn that was on its way does not bring it back.
        """
        self._forgotten_sessions.add(session_id)
        self.prefixes.forget(owner=session_id)
        self._forget_running()

    def forget_scope(self, scope: str) -> None:
        """Remove what was kept of all sessions of a scope, as `forget_session` does for one."""
        self._forgotten_scopes.add(scope)
        self.prefixes.forget(scope=scope)
        self._forget_running()

    def _forget_running(self) -> None:
        for stream in self._scheduler.streams:
            if self._is_forgotten(stream.request):
                stream.state.forget()
        self.kv.erase_free_pages()

    def _is_forgotten(self, opened: TurnOpen) -> bool:
        return opened.session_id in self._forgotten_sessions or opened.scope in self._forgotten_scopes

    def idle_s(self, now_s: float) -> float | None:
        """None: only new input, or a reader who catches up, makes work."""
        return None

    def streams_of(self, batch: Batch) -> Iterable[ThinkStream]:
        """The streams that a failure of the step concerns. An intake that fails ends one: the one it was reading."""
        if batch.taking is not None:
            return [batch.taking]
        pairs = [*batch.prefill, *batch.encode]
        return {*batch.think, *batch.intake, *(stream for stream, _ in pairs)}

    def describe(self, batch: Batch) -> tuple[str, int]:
        """The kind of the step, and the streams or chunks in it."""
        if batch.think:
            return "think", len(batch.think)
        if batch.prefill:
            return "prefill", len(batch.prefill)
        return ("encode", len(batch.encode)) if batch.encode else ("intake", len(batch.intake))

    def schedule(self, now_s: float) -> Batch | None:
        """The next step: thoughts, prompt positions, audio chunks or input."""
        return self._scheduler.schedule(now_s)

    def step(self, batch: Batch) -> Outputs:
        """Carry out one step. Wrong input ends its own stream only."""
        if batch.think:
            return self._think(batch.think)
        if batch.prefill:
            return self._prefill(batch.prefill)
        if batch.encode:
            self._encode(batch.encode)
            return []
        return self._take_in(batch)

    def warm_up(self) -> None:
        """One pass of tower, stack and lm_head on the real device, and its graphs. Raises what they raise."""
        self.thought_step.capture()
        self.prompt_step.capture(self.thinker.forward)
        self.tower_step.capture()
        frames = torch.zeros(self.thinker.tower.chunk_frames, self.thinker.mel.bins)
        embeddings = self.tower_step([frames])[0]
        slot = self.kv.open()
        try:
            plan = self.kv.plan([slot], [len(embeddings)])
            self.thinker.choose(self.prompt_step(self.thinker.forward, [embeddings], plan))
        finally:
            self.kv.close(slot)

    def _new_request(self, stream: ThinkStream, slot: int) -> Request:
        wanted = stream.request.max_thoughts
        request = Request(
            stream.request,
            self._tokenizer,
            slot=slot,
            new_prompt=self.thinker.new_prompt,
            match_prefix=partial(self._memory.match_prefix, slot),
            page_size=self.kv.page_size,
            im_end_id=self.thinker.tokens.im_end,
            max_thoughts=self._max_thoughts if wanted is None else min(wanted, self._max_thoughts),
            max_positions=self.max_positions,
            opened_s=stream.opened_s,
        )
        if self._is_forgotten(stream.request):
            request.forget()
        return request

    def _take_in(self, batch: Batch) -> Outputs:
        """Turn input into prompt positions, stream by stream, within `INTAKE_SAMPLES` or until one fails."""
        budget = INTAKE_SAMPLES
        for stream in batch.intake:
            batch.taking = stream
            self._scheduler.had_intake(stream)
            try:
                budget = self._take_in_one(stream, budget)
            except ChromaError as error:
                return [(stream, End(error))]
            if budget <= 0:
                break
        return []

    def _take_in_one(self, stream: ThinkStream, budget: int) -> int:
        """Returns what is left of the budget."""
        request: Request = stream.state
        if request.preempted:
            request.restart()
        while budget > 0 and has_input(stream):
            if request.pending:
                budget -= request.apply_next()
            elif stream.inbox:
                request.take(stream.take_input(), time.monotonic())
            else:
                request.end_input()
        self._cut_back(stream)
        return budget

    def _cut_back(self, stream: ThinkStream) -> None:
        """Drop computed positions that must be computed again.

        These are positions that a louder part changed, and the last one when it was computed before the commit: the
        first thought needs its hidden state. A restarted request that found everything in the cache goes on at once.
        """
        request: Request = stream.state
        if self._scheduler.to_prefill(request) < 0:
            self._memory.truncate(stream, request.prompt.final)
        if not request.committed or request.decoding or self.kv.lengths[request.slot] != request.prompt.length:
            return
        if request.usage is not None:
            request.conclude_prompt(time.monotonic())
            return
        if not request.prompt.length:
            raise InvalidArgument("the chat template renders nothing for this turn: expected at least one token")
        self._memory.truncate(stream, request.prompt.length - 1)

    def _encode(self, chunks: list[tuple[ThinkStream, DirtyChunk]]) -> None:
        encoded = self.tower_step([chunk.clip.features(chunk.index) for _, chunk in chunks])
        for (stream, chunk), embeddings in zip(chunks, encoded, strict=True):
            stream.state.prompt.store(chunk, embeddings)

    def _prefill(self, shares: Shares) -> Outputs:
        starts = {stream: int(self.kv.lengths[stream.state.slot]) for stream, _ in shares}
        shares, plan = self._memory.plan(shares)
        if plan is None:
            return []
        with self._memory.undone_if_it_fails(shares):
            embeddings = [stream.state.prompt.embeddings(starts[stream], count) for stream, count in shares]
            hidden = self.prompt_step(self.thinker.forward, embeddings, plan)
        self.counters.computed_tokens += len(hidden)
        ready: list[ThinkStream] = []
        last_rows: list[int] = []
        end = 0
        for stream, count in shares:
            end += count
            request: Request = stream.state
            self._memory.keep_prefix(request, ends_here=False)
            if request.committed and self.kv.lengths[request.slot] == request.prompt.length:
                is_first = request.usage is None  # else it was preempted, and its last token is chosen already
                request.conclude_prompt(time.monotonic())
                if is_first:
                    ready.append(stream)
                    last_rows.append(end - 1)
        if not ready:
            return []
        hidden = hidden[torch.tensor(last_rows, device=hidden.device)]
        return self._conclude(ready, self.thinker.choose(hidden), hidden.cpu())

    def _think(self, streams: list[ThinkStream]) -> Outputs:
        outputs: Outputs = []
        for stream in streams:
            request: Request = stream.state
            if request.waiting_hidden is not None:  # the token of a forced reply came after its hidden state
                outputs += self._emit(stream, request.forced_ids.popleft(), request.waiting_hidden)
        shares, plan = self._memory.plan([(stream, 1) for stream in streams if stream.state.token_id is not None])
        if plan is None:
            return outputs
        with self._memory.undone_if_it_fails(shares):
            chosen, hidden = self.thought_step(plan, [stream.state.token_id for stream, _ in shares])
        return outputs + self._conclude([stream for stream, _ in shares], chosen, hidden)

    def _conclude(self, streams: list[ThinkStream], chosen: list[int], hidden: torch.Tensor) -> Outputs:
        """Thoughts of the tokens chosen from hidden [B, D], on the host.

        A forced reply takes the next token of its text. Without one it keeps its hidden state.
        """
        outputs: Outputs = []
        finite: list[bool] = hidden.isfinite().all(dim=-1).tolist()
        for stream, token_id, state, is_finite in zip(streams, chosen, hidden, finite, strict=True):
            request: Request = stream.state
            if not is_finite:
                request.forget()  # so that its values are erased before another turn gets its pages
                self.prefixes.forget(owner=request.sharing.owner)
                outputs.append((stream, End(NotFinite("the reasoner's values of this turn overflowed"))))
            elif not request.is_forced:
                if token_id == request.banned_id:
                    token_id = self.thinker.choose_other(state, token_id)
                outputs += self._emit(stream, token_id, state.clone())
            elif request.forced_ids:
                outputs += self._emit(stream, request.forced_ids.popleft(), state.clone())
            else:
                request.wait_with(state.clone())
        return outputs

    def _emit(self, stream: ThinkStream, token_id: int, hidden: torch.Tensor) -> Outputs:
        request: Request = stream.state
        thoughts: Outputs = [(stream, thought) for thought in request.emit(token_id, hidden, time.monotonic())]
        if request.end_reason is not None:
            return [*thoughts, (stream, request.done()), (stream, End())]
        return thoughts
