"""One turn: three streams joined in order. READ FIRST.

    input ==Think==> thoughts ==Speak==> code frames ==Decode==> sound     (reasoner, speech_gen, codec)
                        \\=> text to the client                     \\=> sound to the client

Thinking starts with the first input, while the user still speaks; speaking starts with the commit. Bounded queues
stand between the stages: text runs ahead of speech by at most `_THOUGHTS_AHEAD`, and speech_gen paces itself to the
listener. A replica that is full or gone before its call has given anything is replaced by another. The first failure
otherwise, or cancelling `run`, cancels all three calls, which frees their slots; when `run` is over, no call and no
task of the turn is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import END_REASON_UNSPECIFIED, EndReason, Heard, Thought
from chroma.v1.speech_gen_pb2 import SpeakDone, VoicePrompt
from gateway.audio.resample import sample_count
from gateway.conversation.events import AudioDelta, TextDelta, Timings
from gateway.pipeline.calls import ResponseStream, fed_call, join
from gateway.pipeline.requests import TurnPlan, decode_requests, speak_requests, think_requests
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.pipeline.upstreams import Upstream, UpstreamPool
from gateway.store.records import FRAMES_PER_THOUGHT, TurnRecord
from gateway.store.voices import SpokenVoice
from services.common.errors import NotFound, OutOfRange
from services.common.telemetry.tracing import mark, trace
from services.common.wire.audio import FRAME_S

_THOUGHTS_AHEAD = 256
_FRAMES_AHEAD = 64

Emit = Callable[[TextDelta | AudioDelta], Awaitable[None]]
"""Takes the turn's text and sound. It may block, which holds the turn up and nothing else."""


class Turn:
    """One turn and what came of it so far."""

    def __init__(self, turn_id: str, source: UserInput | ForcedReply, stages: UpstreamPool, emit: Emit) -> None:
        self.turn_id = turn_id
        self.source = source
        self.thoughts: list[Thought] = []
        """Without their hidden states."""
        self.heard = Heard()
        """Comes with the first thought."""
        self.text_end: EndReason.ValueType = END_REASON_UNSPECIFIED
        """Why the thoughts ended; unspecified when the turn ended before them."""
        self.speech = SpeakDone()
        self.voice_fingerprint = ""
        self.samples = 0
        """Of speech emitted, at 24 kHz."""
        self.dropped_turns = 0
        """Oldest turns of the history left out, because the reasoner has no room for all of it."""
        self.timings = Timings()
        self._stages = stages
        self._emit = emit
        self.committed_s = 0.0
        """When the reply could start, in monotonic seconds."""
        self._thoughts: asyncio.Queue[Thought | None] = asyncio.Queue(_THOUGHTS_AHEAD)
        self._frames: asyncio.Queue[CodeFrames | None] = asyncio.Queue(_FRAMES_AHEAD)
        self._calls: list[ResponseStream[Any]] = []

    async def run(self, plan: TurnPlan) -> None:
        """Carry the turn to the end of its speech. Raises the first failing stage's domain error, which names it."""
        if plan.voice is None:
            await join(self._follow_input(), self._think(plan))
        else:
            await join(self._follow_input(), self._think(plan), self._speak(plan, plan.voice), self._decode(plan))

    async def _follow_input(self) -> None:
        await self.source.committed.wait()
        self.committed_s = time.monotonic()
        mark("committed")
        await self.source.complete.wait()
        for call in self._calls:
            call.expect()

    async def _think(self, plan: TurnPlan) -> None:
        """Input to thoughts; without the older half of the history if the reasoner has no room for it."""
        history, key = plan.history, plan.session_id or self.turn_id
        while True:
            think = partial(self._think_at, plan, history)
            try:
                await self._stages.reasoner.call_with_failover(key, think, begun=lambda: bool(self.thoughts))
                break
            except OutOfRange:
                if self.thoughts or not history:
                    raise
                history = history[(len(history) + 1) // 2 :]
                self.dropped_turns = len(plan.history) - len(history)
        if plan.voice is not None:
            await self._thoughts.put(None)

    async def _think_at(self, plan: TurnPlan, history: Sequence[TurnRecord], stub: Any) -> None:
        requests = think_requests(plan, history, self.source)
        async with self._call(self._stages.reasoner, stub, "Think", requests) as answers:
            async for answer in answers:
                if answer.HasField("thought"):
                    await self._take(answer.thought, spoken=plan.voice is not None)
                elif answer.HasField("done"):
                    self.text_end = answer.done.reason

    async def _take(self, thought: Thought, *, spoken: bool) -> None:
        self.timings.mark("thought", self._elapsed_s())
        if thought.HasField("heard"):
            self.heard = thought.heard
            self.timings.heard_s = thought.heard.prefill_s
        if spoken:
            await self._thoughts.put(thought)
        self.thoughts.append(Thought(token_id=thought.token_id, text=thought.text, last=thought.last))
        if thought.text:
            offset_ms = round(thought.index * FRAMES_PER_THOUGHT * FRAME_S * 1000)
            await self._emit(TextDelta(self.turn_id, thought.text, offset_ms))

    async def _speak(self, plan: TurnPlan, voice: SpokenVoice) -> None:
        """Thoughts to code frames, in a voice that the replica may already hold."""
        await self.source.committed.wait()
        admitted = asyncio.Event()
        speak = partial(self._speak_at, plan, voice, admitted)
        await self._stages.speech_gen.call_with_failover(voice.voice_id, speak, begun=admitted.is_set)

    async def _speak_at(self, plan: TurnPlan, voice: SpokenVoice, admitted: asyncio.Event, stub: Any) -> None:
        try:
            await self._speak_as(plan, voice.fingerprint, admitted, stub)
        except NotFound:
            await self._speak_as(plan, voice.prompt, admitted, stub)

    async def _speak_as(self, plan: TurnPlan, voice: str | VoicePrompt, admitted: asyncio.Event, stub: Any) -> None:
        spoken = asyncio.Event()
        requests = speak_requests(plan, voice, admitted, spoken, self._thoughts)
        async with self._call(self._stages.speech_gen, stub, "Speak", requests) as answers:
            async for answer in answers:
                if answer.HasField("opened"):
                    self.voice_fingerprint = answer.opened.voice_fingerprint
                    admitted.set()
                elif answer.HasField("frames"):
                    self.timings.mark("frame", self._elapsed_s())
                    await self._frames.put(answer.frames)
                elif answer.HasField("done"):
                    self.speech = answer.done
                    spoken.set()
                    await self._frames.put(None)

    async def _decode(self, plan: TurnPlan) -> None:
        """Code frames to sound. The turn is over with its last sound, whatever text may still come."""
        await self.source.committed.wait()
        decode = partial(self._decode_at, plan, [])
        await self._stages.codec.call_with_failover(self.turn_id, decode, begun=lambda: self.samples > 0)

    async def _decode_at(self, plan: TurnPlan, taken: list[CodeFrames | None], stub: Any) -> None:
        requests = decode_requests(plan.output_encoding, self._frames, taken)
        async with self._call(self._stages.codec, stub, "Decode", requests) as answers:
            async for answer in answers:
                samples = sample_count(answer.pcm.data, plan.output_encoding)
                self.timings.mark("audio", self._elapsed_s())
                await self._emit(AudioDelta(self.turn_id, self.samples, samples, answer.pcm.data))
                self.samples += samples

    @asynccontextmanager
    async def _call(
        self, stage: Upstream, stub: Any, method: str, requests: AsyncGenerator[Any, None]
    ) -> AsyncIterator[ResponseStream[Any]]:
        rpc = getattr(stub, method)
        with trace(f"{stage.name}.{method}"):
            call = fed_call(stage.name, rpc, requests, limit_s=stage.limit_s, read_timeout_s=stage.read_timeout_s)
            async with call as answers:
                self._calls.append(answers)
                if self.source.complete.is_set():
                    answers.expect()
                yield answers

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.committed_s
