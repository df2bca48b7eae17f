"""A turn over fake calls, and the responses of its three upstreams."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any, cast

from grpc import aio

from chroma.v1 import codec_pb2, generation_pb2, reasoner_pb2, speech_gen_pb2
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat, Pcm
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.pipeline.deltas import AudioDelta, TextDelta, ToolCallMade
from gateway.pipeline.requests import TurnPlan
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import UserInput
from gateway.pipeline.upstreams import TurnSeat, UpstreamPool
from gateway.store.records import TurnRecord
from gateway.store.voices import SpokenVoice
from tests.support.fake_calls import FakeCall, FakeUpstreamPool

LIMIT_S = 300.0
_SPEECH = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)
VOICE = SpokenVoice("ada", speech_gen_pb2.VoicePrompt())


def plan(*, voice: SpokenVoice | None = VOICE, history: tuple[TurnRecord, ...] = ()) -> TurnPlan:
    """A spoken turn of a session; `voice` None: a written one."""
    return TurnPlan(
        session_id="session",
        config=SessionConfig(),
        system_prompt=None,
        history=history,
        voice=voice,
        sampling=None,
        max_frames=100,
        max_lead_s=None,
        output_encoding=AUDIO_ENCODING_PCM_S16LE,
    )


class RunningTurn:
    """A turn whose user said `hello`, and what it emitted."""

    def __init__(
        self,
        plan: TurnPlan,
        *,
        limit_s: float = LIMIT_S,
        began_before_s: float = 0.0,
        input_idle_s: float = 60.0,
        seat: TurnSeat = nullcontext,
    ) -> None:
        self.upstreams = FakeUpstreamPool(turn_seat=seat)
        self.source = UserInput(_SPEECH, max_audio_s=10, max_chars=100)
        self.source.began_s -= began_before_s
        self.source.add_text("hello")
        self.emitted: list[TextDelta | AudioDelta | ToolCallMade] = []
        self.turn = Turn(
            "turn",
            self.source,
            cast(UpstreamPool, self.upstreams),
            self._emit,
            limit_s=limit_s,
            input_idle_s=input_idle_s,
        )
        self.task = asyncio.create_task(self._run(plan))

    async def _emit(self, delta: TextDelta | AudioDelta | ToolCallMade) -> None:
        self.emitted.append(delta)

    async def _run(self, plan: TurnPlan) -> None:
        async with self.turn.calls.time_limit():
            await self.turn.run(plan)


def admitted(checkpoint: str = "one", *, takes_ends_turn: bool = False) -> reasoner_pb2.ThinkResponse:
    """The reasoner admits the call."""
    opened = reasoner_pb2.ThinkOpened(checkpoint_fingerprint=checkpoint, takes_ends_turn=takes_ends_turn)
    return reasoner_pb2.ThinkResponse(opened=opened)


def thought(index: int, text: str, *, last: bool = False) -> reasoner_pb2.ThinkResponse:
    """A thought; the first says how long the prompt is."""
    thought = reasoner_pb2.Thought(index=index, token_id=10 + index, text=text, last=last)
    if not index:
        thought.heard.prompt_tokens = 30
    return reasoner_pb2.ThinkResponse(thought=thought)


def think_done() -> reasoner_pb2.ThinkResponse:
    """The text has ended."""
    return reasoner_pb2.ThinkResponse(done=reasoner_pb2.ThinkDone(reason=generation_pb2.END_REASON_EOS))


def opened(*, takes_groups: bool = False) -> speech_gen_pb2.SpeakResponse:
    """The speech generator admits the call."""
    opened = speech_gen_pb2.SpeakOpened(voice_fingerprint=VOICE.fingerprint("one"), takes_groups=takes_groups)
    return speech_gen_pb2.SpeakResponse(opened=opened)


def pcm(samples: int) -> codec_pb2.DecodeResponse:
    """Silence from the codec."""
    return codec_pb2.DecodeResponse(pcm=Pcm(data=bytes(2 * samples)))


async def calls_of(running: RunningTurn) -> tuple[FakeCall, FakeCall, FakeCall]:
    """The calls of a committed turn, once the reasoner has admitted it."""
    think = await running.upstreams.reasoner.calls.get()
    think.answer(admitted())
    return think, await running.upstreams.speech_gen.calls.get(), await running.upstreams.codec.calls.get()


async def until_cancelled(call: FakeCall) -> None:
    """Wait until the turn has ended this call."""
    async with asyncio.timeout(30):
        while not call.cancelled:  # noqa: ASYNC110  # the fake call has no event for it
            await asyncio.sleep(0.01)


async def next_request(call: FakeCall, kind: str) -> Any:
    """The next request of this kind."""
    while True:
        request = await call.requests.get()
        assert request is not aio.EOF, f"the requests ended without {kind}"
        if request.WhichOneof("request") == kind:
            return request
