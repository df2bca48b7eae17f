"""One turn: three streams joined in order. READ FIRST.

    input ==Think==> thoughts ==Speak==> code frames ==Decode==> speech    (reasoner, speech_gen, codec)
                        \\=> text to the client                     \\=> speech to the client

The Think call starts with the first input, while the user still speaks. When the user's input stops coming for a while
before the commit, the call is ended, which frees the reasoner's slot; it starts again, from the beginning, with further
input or the commit. Before a Think call the turn takes a seat, one of its caller's share of the turns at once. It keeps
the seat to its end, or until that call is ended early. A turn that found all reasoners full, or its caller's share
taken, before its commit is tried once more at the commit. Speak and Decode start when it is sent. Bounded queues
connect the calls: the text runs at most `_THOUGHTS_AHEAD` thoughts ahead of the speech, and speech_gen paces itself to
the listener. A call whose replica is full, gone or broken before its first output goes to another one. All three calls
go to replicas of one checkpoint: the one that the reasoner names when it admits the turn. Any other failure cancels all
three calls, and so does cancelling `run`. A cancelled call frees its slot. When `run` has ended, no call and no task of
the turn is left.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.codec_pb2 import DecodeOpen
from chroma.v1.generation_pb2 import END_REASON_EOS, END_REASON_LIMIT, END_REASON_UNSPECIFIED, EndReason
from chroma.v1.reasoner_pb2 import Heard, ThinkOpened, Thought
from chroma.v1.speech_gen_pb2 import SpeakDone, SpeakOpen
from gateway.pipeline.deltas import AudioDelta, TextDelta, TextPiece, Timings, ToolCallMade
from gateway.pipeline.input_pace import InputPace
from gateway.pipeline.requests import SPEECH_AFTER_S, Ledger, TurnPlan, decode_requests, speak_requests, think_requests
from gateway.pipeline.stop_sequences import StopSequences
from gateway.pipeline.turn_calls import TurnCalls
from gateway.pipeline.turn_input import ForcedReply, TurnInput, never
from gateway.pipeline.upstreams import UpstreamPool
from gateway.pipeline.voice_prompt import add_voice_prompt, store_embedding
from gateway.store.records import ToolCall, TurnRecord
from gateway.store.voices import SpokenVoice
from gateway.tasks import cancel, join
from services.common.errors import ChromaError, FailedPrecondition, NotFound, OutOfRange, ResourceExhausted
from services.common.telemetry.tracing import mark
from services.common.wire.audio import CODEBOOKS, FRAME_SAMPLES, THOUGHT_S
from services.common.wire.pcm import sample_count

_THOUGHTS_AHEAD = 256
_FRAMES_AHEAD = 64

Emit = Callable[[TextDelta | AudioDelta | ToolCallMade], Awaitable[None]]
"""Takes the turn's text, speech and tool calls. Blocking it holds up this turn only."""


class Turn:
    """One turn and its results so far."""

    def __init__(
        self,
        turn_id: str,
        source: TurnInput,
        upstreams: UpstreamPool,
        emit: Emit,
        *,
        limit_s: float,
        input_idle_s: float,
    ) -> None:
        self.turn_id = turn_id
        self.trace_id = ""
        """Of the turn's span. Empty before the turn runs."""
        self.source = source
        self.thoughts: list[Thought] = []
        """The thoughts so far, without their hidden states."""
        self.tool_calls: dict[str, ToolCall] = {}
        """The tool calls that the reply ends with, by their ids, with the results that came so far."""
        self.prompt = Heard()
        """The reasoner's counts of the prompt. They come with the first thought."""
        self.text_end: EndReason.ValueType = END_REASON_UNSPECIFIED
        """Why the thoughts ended. Unspecified when the turn ended before them."""
        self.speech = SpeakDone()
        self.checkpoint = ""
        """Fingerprint of the checkpoint that the turn runs on. Empty before the reasoner admits the turn."""
        self.samples = 0
        """The number of samples of speech emitted, at 24 kHz."""
        self.dropped_turns = 0
        """The number of oldest turns of the history left out, because the reasoner has no room for all of it."""
        self.timings = Timings()
        self.committed_s = 0.0
        """When the reply could start, in monotonic seconds."""
        self.calls = TurnCalls(source, limit_s)
        """Opens the turn's calls and ends them when its time is over."""
        self._upstreams = upstreams
        self._emit = emit
        self._pace = InputPace(source, input_idle_s)
        self._thoughts: asyncio.Queue[Thought | None] = asyncio.Queue(_THOUGHTS_AHEAD)
        self._frames: asyncio.Queue[CodeFrames | None] = asyncio.Queue(_FRAMES_AHEAD)
        self._frames_taken = 0
        """Code frames on their way to the codec, or through it."""
        self._admitted = asyncio.Event()
        """Set when the reasoner has a slot for the turn: `checkpoint` is then known."""
        self._asked = asyncio.Event()
        """Set when a reasoner has been sent the commit."""
        self._sounding = asyncio.Event()
        """Set with the first piece of speech."""
        self._text_known = asyncio.Event()
        """Set with the first thought to speak, or when there is none."""
        self._is_spoken = False
        """Whether there is a thought to speak."""
        self._is_calling = False
        """Whether the reply has begun to call tools: its text is complete."""
        self._thinking_ended = asyncio.Event()
        self._seat = AsyncExitStack()
        """Holds the turn's seat, once it is taken."""
        self._is_seated = False
        self._unreadable_call = ""
        """Why the tool calls of the reply cannot be read. Empty: they can, or there are none."""
        self._enrolled_by: Any = None
        """The stub of the replica that computed the voice's embedding. None: no replica had to."""

    async def run(self, plan: TurnPlan) -> None:
        """Run the turn to the end of its speech. Raises the domain error of the first call that fails, with its
        upstream's name."""
        async with self._seat:
            if plan.voice is None:
                await join(self._follow_input(), self._think(plan))
            else:
                await join(
                    self._follow_input(),
                    self._think(plan),
                    self._speak(plan, plan.voice),
                    self._store_embedding(plan.voice),
                    self._decode(plan),
                )

    async def _follow_input(self) -> None:
        await self.source.committed.wait()
        self.committed_s = time.monotonic()
        mark("committed")
        await self.calls.follow_input()

    async def _think(self, plan: TurnPlan) -> None:
        """Turn the input into thoughts. Each time that the reasoner has no room, drop the older half of the history.
        When all reasoners were full before the commit, try once more at the commit."""
        history, key = plan.history, plan.session_id or self.turn_id
        while True:
            is_early = not self.source.committed.is_set()
            think = partial(self._think_at, plan, history)
            checkpoints = self._upstreams.shared_checkpoints() if plan.voice is not None else None
            try:
                if not plan.low_priority:
                    await self._take_seat()
                call = self._upstreams.reasoner.call_with_failover(
                    key,
                    think,
                    begun=lambda: bool(self.thoughts),
                    checkpoints=checkpoints,
                    low_priority=plan.low_priority,
                )
                if await self._while_input_comes(call):
                    break
                await self._leave_seat()
                await self._pace.resumed()
            except ResourceExhausted:
                if not is_early or self.thoughts:
                    raise
                await self._leave_seat()
                await self.source.committed.wait()
            except OutOfRange:
                if self.thoughts or not history:
                    raise
                history = history[(len(history) + 1) // 2 :]
                self.dropped_turns = len(plan.history) - len(history)
        if plan.voice is not None:
            await self._thoughts.put(None)
            self._text_known.set()
        self._thinking_ended.set()
        if self._unreadable_call:
            raise ChromaError(f"the model began a tool call that cannot be read: {self._unreadable_call}")

    async def _take_seat(self) -> None:
        """Raises ResourceExhausted when the caller has as many turns as it may."""
        if not self._is_seated:
            await self._seat.enter_async_context(self._upstreams.turn_seat())
            self._is_seated = True

    async def _leave_seat(self) -> None:
        self._is_seated = False
        await self._seat.aclose()

    async def _while_input_comes(self, call: Coroutine[Any, Any, None]) -> bool:
        """Await the Think call. False when it was cancelled, because the input stopped coming before the commit."""
        calling, stalled = asyncio.create_task(call), asyncio.create_task(self._pace.stalled())
        try:
            await asyncio.wait((calling, stalled), return_when=asyncio.FIRST_COMPLETED)
            if self.source.committed.is_set():
                await asyncio.wait((calling,))
            if calling.done():
                calling.result()
                return True
            self.checkpoint = ""  # the next replica may run another one: no other call of the turn has begun
            self._admitted.clear()
            return False
        finally:
            await cancel(calling, stalled)

    async def _think_at(self, plan: TurnPlan, history: Sequence[TurnRecord], stub: Any) -> None:
        opened = ThinkOpened()
        requests = think_requests(plan, history, self.source, self._asked, lambda: opened.takes_ends_turn)
        owes = never if plan.low_priority else self.source.complete.is_set
        stop = StopSequences(plan.stop)
        async with self.calls.open(self._upstreams.reasoner, stub, "Think", requests, owes) as responses:
            async for response in responses:
                if response.HasField("opened"):
                    opened = response.opened
                    self._bind(opened.checkpoint_fingerprint)
                elif response.HasField("thought") or response.HasField("thoughts"):
                    came = response.thoughts.thoughts or [response.thought]
                    await self._take_thoughts(stop.push_all(came), spoken=plan.voice is not None)
                    if stop.is_found:
                        if stop.cut is not None:
                            await self._take_thoughts([stop.cut], spoken=False)
                        self.text_end = END_REASON_EOS
                        return
                elif response.HasField("done"):
                    self.text_end, self._unreadable_call = response.done.reason, response.done.unreadable_call
                    for call in response.done.tool_calls:
                        await self._take_call(call.name, call.arguments)

    def _bind(self, checkpoint: str) -> None:
        """Bind the turn to this checkpoint. Raises FailedPrecondition when it is bound to another one."""
        if self._admitted.is_set() and checkpoint != self.checkpoint:
            raise FailedPrecondition(f"reasoner: expected checkpoint {self.checkpoint}, the replica runs {checkpoint}")
        self.checkpoint = checkpoint
        self._admitted.set()

    @property
    def _bound_to(self) -> set[str] | None:
        return {self.checkpoint} if self.checkpoint else None

    async def _take_thoughts(self, thoughts: Sequence[Thought], *, spoken: bool) -> None:
        """Pass on thoughts that came together: each to be spoken, and their texts as one event."""
        pieces: list[TextPiece] = []
        for thought in thoughts:
            self.timings.mark("thought", self._elapsed_s())
            if thought.HasField("heard"):
                self.prompt = thought.heard
                self.timings.heard_s = thought.heard.prefill_s
            if thought.call:
                await self._begin_calls(thought)
            elif spoken:
                await self._thoughts.put(thought)
                if not self._is_spoken:
                    self._is_spoken = True
                    self._text_known.set()
                    await asyncio.sleep(0)  # it is sent before its text, and before the next one is read
            self.thoughts.append(
                Thought(token_id=thought.token_id, text=thought.text, last=thought.last, call=thought.call)
            )
            if thought.text:
                pieces.append(TextPiece(thought.text, round(thought.index * THOUGHT_S * 1000)))
        if pieces:
            await self._emit(TextDelta.of(self.turn_id, pieces))

    async def _begin_calls(self, thought: Thought) -> None:
        """Note that the reply goes on with tool calls, which are not spoken. The first thought of them ends the speech
        of the text before them."""
        if not self._is_calling and self._is_spoken:
            await self._thoughts.put(
                Thought(index=thought.index, token_id=thought.token_id, hidden=thought.hidden, last=True)
            )
        self._is_calling = True
        self._text_known.set()

    async def _take_call(self, name: str, arguments: str) -> None:
        call = ToolCall(f"call_{secrets.token_hex(12)}", name, arguments)
        self.tool_calls[call.call_id] = call
        await self._emit(ToolCallMade(self.turn_id, call.call_id, name, arguments))

    def _may_call(self, plan: TurnPlan) -> bool:
        """Whether the reply may call tools."""
        return plan.tools is not None and not isinstance(self.source, ForcedReply)

    async def _has_speech(self, plan: TurnPlan) -> bool:
        """Wait until the reply can be spoken. False: there is no text to speak, since a stop sequence or a tool call
        comes first. The calls for speech open while the reasoner thinks, so that the commit does not wait for them."""
        await self._asked.wait()
        await asyncio.sleep(SPEECH_AFTER_S)
        await self._admitted.wait()
        if plan.stop or self._may_call(plan):
            await self._text_known.wait()
            return self._is_spoken
        return True

    async def _speak(self, plan: TurnPlan, voice: SpokenVoice) -> None:
        """Turn thoughts into code frames."""
        if not await self._has_speech(plan):
            return
        speak = partial(self._speak_at, plan, voice, [])
        await self._upstreams.speech_gen.call_with_failover(
            voice.voice_id, speak, begun=lambda: self._frames_begun, checkpoints=self._bound_to
        )

    @property
    def _frames_begun(self) -> bool:
        return self.timings.first_frame_s is not None or self.speech != SpeakDone()

    async def _speak_at(self, plan: TurnPlan, voice: SpokenVoice, taken: list[Thought | None], stub: Any) -> None:
        """Name the voice by its fingerprint; send its prompt to a replica that does not have the voice."""
        opened = SpeakOpen(
            voice_fingerprint=voice.fingerprint(self.checkpoint),
            sampling=plan.sampling,
            max_frames=min(plan.max_frames, plan.max_tokens or plan.max_frames),
            max_lead_s=plan.max_lead_s,
            checkpoint_fingerprint=self.checkpoint,
        )
        try:
            await self._speak_as(plan, opened, taken, stub)
        except NotFound:
            if not await add_voice_prompt(opened, voice):
                self._enrolled_by = stub
            await self._speak_as(plan, opened, taken, stub)

    async def _speak_as(self, plan: TurnPlan, opened: SpeakOpen, taken: list[Thought | None], stub: Any) -> None:
        admitted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        spoken, ledger = asyncio.Event(), Ledger()
        requests = speak_requests(opened, admitted, spoken, self._thoughts, taken, ledger)

        async def end_speech(done: SpeakDone) -> None:
            self.speech = done
            ledger.settled = True
            spoken.set()
            await self._frames.put(None)

        async with self.calls.open(self._upstreams.speech_gen, stub, "Speak", requests, ledger.owes) as responses:
            ledger.notify = responses.due
            async for response in responses:
                if response.HasField("opened"):
                    ledger.answered = 1
                    admitted.set_result(response.opened.takes_groups)
                elif response.HasField("frames"):
                    ledger.answered += len(response.frames.codes) // CODEBOOKS
                    self.timings.mark("frame", self._elapsed_s())
                    if not await self._take_frames(plan, response.frames):
                        await end_speech(SpeakDone(reason=END_REASON_LIMIT, frames=self._frames_taken))
                        return
                elif response.HasField("done"):
                    await end_speech(response.done)

    async def _take_frames(self, plan: TurnPlan, frames: CodeFrames) -> bool:
        """Pass on the frames that the reply's limit of tokens has room for. False if there were more.

        The text may be shorter than its share of the tokens, which leaves more for the speech. What it leaves is known
        in time: the speech reaches its own share only when it has got the last thought.
        """
        codes = frames.codes
        if plan.max_tokens is not None:
            is_thought_out = bool(self.thoughts) and self.thoughts[-1].last
            thoughts = len(self.thoughts) if is_thought_out else plan.max_thoughts
            left = max(0, plan.max_tokens - thoughts - self._frames_taken)
            codes = frames.codes[: left * CODEBOOKS]
        self._frames_taken += len(codes) // CODEBOOKS
        if codes:
            await self._frames.put(CodeFrames(first_frame=frames.first_frame, codes=codes))
        return len(codes) == len(frames.codes)

    async def _store_embedding(self, voice: SpokenVoice) -> None:
        """Store the voice's embedding if a replica computed it. It waits for the first piece of speech, which matters
        more."""
        await self._sounding.wait()
        if self._enrolled_by is not None:
            await store_embedding(voice, self._upstreams.speech_gen, self._enrolled_by)

    async def _decode(self, plan: TurnPlan) -> None:
        """Turn code frames into speech. The turn ends with its last sample, even if more text would come, unless that
        may be tool calls."""
        if await self._has_speech(plan):
            decode = partial(self._decode_at, plan, [])
            await self._upstreams.codec.call_with_failover(
                self.turn_id, decode, begun=lambda: self.samples > 0, checkpoints=self._bound_to
            )
        if self._may_call(plan):
            await self._thinking_ended.wait()

    async def _decode_at(self, plan: TurnPlan, taken: list[CodeFrames | None], stub: Any) -> None:
        opened = DecodeOpen(encoding=plan.output_encoding, checkpoint_fingerprint=self.checkpoint)
        ledger = Ledger()
        requests = decode_requests(opened, self._frames, taken, ledger)
        async with self.calls.open(self._upstreams.codec, stub, "Decode", requests, ledger.owes) as responses:
            ledger.notify = responses.due
            async for response in responses:
                samples = sample_count(response.pcm.data, plan.output_encoding)
                self.timings.mark("audio", self._elapsed_s())
                await self._emit(AudioDelta(self.turn_id, self.samples, samples, response.pcm.data))
                self.samples += samples
                ledger.answered = self.samples // FRAME_SAMPLES
                self._sounding.set()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.committed_s
