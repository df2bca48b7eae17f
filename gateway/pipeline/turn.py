"""One turn: three streams joined in order. READ FIRST.

    input ==Think==> thoughts ==Speak==> code frames ==Decode==> speech    (reasoner, speech_gen, codec)
                        \\=> text to the client                     \\=> speech to the client

The Think call starts with the first input, while the user still speaks. Speak and Decode start with the commit. Bounded
queues connect the calls: the text runs at most `_THOUGHTS_AHEAD` thoughts ahead of the speech, and speech_gen paces
itself to the listener. A call whose replica is full or gone before its first response goes to another replica. All
three calls go to replicas of one checkpoint: the one that the reasoner names when it admits the turn. Any
other failure cancels all three calls, and so does cancelling `run`. A cancelled call frees its slot. When `run` has
ended, no call and no task of the turn is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.codec_pb2 import DecodeOpen
from chroma.v1.reasoner_pb2 import END_REASON_UNSPECIFIED, EndReason, Heard, Thought
from chroma.v1.speech_gen_pb2 import SpeakDone, SpeakOpen
from gateway.pipeline.deltas import AudioDelta, TextDelta, Timings
from gateway.pipeline.requests import TurnPlan, decode_requests, speak_requests, think_requests
from gateway.pipeline.turn_calls import TurnCalls
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.pipeline.upstreams import UpstreamPool
from gateway.pipeline.voice_prompt import add_voice_prompt, store_embedding
from gateway.store.records import FRAMES_PER_THOUGHT, TurnRecord
from gateway.store.voices import SpokenVoice
from gateway.tasks import join
from services.common.errors import FailedPrecondition, NotFound, OutOfRange
from services.common.telemetry.tracing import mark
from services.common.wire.audio import FRAME_S
from services.common.wire.pcm import sample_count

_THOUGHTS_AHEAD = 256
_FRAMES_AHEAD = 64

Emit = Callable[[TextDelta | AudioDelta], Awaitable[None]]
"""Takes the turn's text and speech. Blocking it holds up this turn only."""


class Turn:
    """One turn and its results so far."""

    def __init__(
        self, turn_id: str, source: UserInput | ForcedReply, upstreams: UpstreamPool, emit: Emit, *, limit_s: float
    ) -> None:
        self.turn_id = turn_id
        self.source = source
        self.thoughts: list[Thought] = []
        """The thoughts so far, without their hidden states."""
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
        self._thoughts: asyncio.Queue[Thought | None] = asyncio.Queue(_THOUGHTS_AHEAD)
        self._frames: asyncio.Queue[CodeFrames | None] = asyncio.Queue(_FRAMES_AHEAD)
        self._admitted = asyncio.Event()
        """Set when the reasoner has a slot for the turn: `checkpoint` is then known."""
        self._sounding = asyncio.Event()
        """Set with the first piece of speech."""
        self._enrolled_by: Any = None
        """The stub of the replica that computed the voice's embedding. None: no replica had to."""

    async def run(self, plan: TurnPlan) -> None:
        """Run the turn to the end of its speech. Raises the domain error of the first call that fails, with its
        upstream's name."""
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
        """Turn the input into thoughts. Each time that the reasoner has no room, drop the older half of the history."""
        history, key = plan.history, plan.session_id or self.turn_id
        while True:
            think = partial(self._think_at, plan, history)
            checkpoints = self._upstreams.shared_checkpoints() if plan.voice is not None else None
            try:
                await self._upstreams.reasoner.call_with_failover(
                    key, think, begun=lambda: bool(self.thoughts), checkpoints=checkpoints
                )
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
        async with self.calls.open(self._upstreams.reasoner, stub, "Think", requests) as responses:
            async for response in responses:
                if response.HasField("opened"):
                    self._bind(response.opened.checkpoint_fingerprint)
                elif response.HasField("thought"):
                    await self._take_thought(response.thought, spoken=plan.voice is not None)
                elif response.HasField("done"):
                    self.text_end = response.done.reason

    def _bind(self, checkpoint: str) -> None:
        """Bind the turn to this checkpoint. Raises FailedPrecondition when it is bound to another one."""
        if self._admitted.is_set() and checkpoint != self.checkpoint:
            raise FailedPrecondition(f"reasoner: expected checkpoint {self.checkpoint}, the replica runs {checkpoint}")
        self.checkpoint = checkpoint
        self._admitted.set()

    @property
    def _bound_to(self) -> set[str] | None:
        return {self.checkpoint} if self.checkpoint else None

    async def _take_thought(self, thought: Thought, *, spoken: bool) -> None:
        self.timings.mark("thought", self._elapsed_s())
        if thought.HasField("heard"):
            self.prompt = thought.heard
            self.timings.heard_s = thought.heard.prefill_s
        if spoken:
            await self._thoughts.put(thought)
        self.thoughts.append(Thought(token_id=thought.token_id, text=thought.text, last=thought.last))
        if thought.text:
            offset_ms = round(thought.index * FRAMES_PER_THOUGHT * FRAME_S * 1000)
            await self._emit(TextDelta(self.turn_id, thought.text, offset_ms))

    async def _speak(self, plan: TurnPlan, voice: SpokenVoice) -> None:
        """Turn thoughts into code frames."""
        await self.source.committed.wait()
        await self._admitted.wait()
        admitted = asyncio.Event()
        speak = partial(self._speak_at, plan, voice, admitted)
        await self._upstreams.speech_gen.call_with_failover(
            voice.voice_id, speak, begun=admitted.is_set, checkpoints=self._bound_to
        )

    async def _speak_at(self, plan: TurnPlan, voice: SpokenVoice, admitted: asyncio.Event, stub: Any) -> None:
        """Name the voice by its fingerprint; send its prompt to a replica that does not have the voice."""
        opened = SpeakOpen(
            voice_fingerprint=voice.fingerprint(self.checkpoint),
            sampling=plan.sampling,
            max_frames=plan.max_frames,
            max_lead_s=plan.max_lead_s,
            checkpoint_fingerprint=self.checkpoint,
        )
        try:
            await self._speak_as(opened, admitted, stub)
        except NotFound:
            if not await add_voice_prompt(opened, voice):
                self._enrolled_by = stub
            await self._speak_as(opened, admitted, stub)

    async def _speak_as(self, opened: SpeakOpen, admitted: asyncio.Event, stub: Any) -> None:
        spoken = asyncio.Event()
        requests = speak_requests(opened, admitted, spoken, self._thoughts)
        async with self.calls.open(self._upstreams.speech_gen, stub, "Speak", requests) as responses:
            async for response in responses:
                if response.HasField("opened"):
                    admitted.set()
                elif response.HasField("frames"):
                    self.timings.mark("frame", self._elapsed_s())
                    await self._frames.put(response.frames)
                elif response.HasField("done"):
                    self.speech = response.done
                    spoken.set()
                    await self._frames.put(None)

    async def _store_embedding(self, voice: SpokenVoice) -> None:
        """Store the voice's embedding if a replica computed it. It waits for the first piece of speech, which matters
        more."""
        await self._sounding.wait()
        if self._enrolled_by is not None:
            await store_embedding(voice, self._upstreams.speech_gen, self._enrolled_by)

    async def _decode(self, plan: TurnPlan) -> None:
        """Turn code frames into speech. The turn ends with its last sample, even if more text would come."""
        await self.source.committed.wait()
        await self._admitted.wait()
        decode = partial(self._decode_at, plan, [])
        await self._upstreams.codec.call_with_failover(
            self.turn_id, decode, begun=lambda: self.samples > 0, checkpoints=self._bound_to
        )

    async def _decode_at(self, plan: TurnPlan, taken: list[CodeFrames | None], stub: Any) -> None:
        opened = DecodeOpen(encoding=plan.output_encoding, checkpoint_fingerprint=self.checkpoint)
        requests = decode_requests(opened, self._frames, taken)
        async with self.calls.open(self._upstreams.codec, stub, "Decode", requests) as responses:
            async for response in responses:
                samples = sample_count(response.pcm.data, plan.output_encoding)
                self.timings.mark("audio", self._elapsed_s())
                await self._emit(AudioDelta(self.turn_id, self.samples, samples, response.pcm.data))
                self.samples += samples
                self._sounding.set()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.committed_s
