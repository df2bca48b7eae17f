"""One turn over fake calls: what is asked of each upstream, in which order, and how the turn ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any, cast

import grpc
import pytest
from grpc import aio

from chroma.v1 import codec_pb2, generation_pb2, reasoner_pb2, speech_gen_pb2
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat, CodeFrames, Pcm
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.pipeline.deltas import AudioDelta, TextDelta, ToolCallMade
from gateway.pipeline.requests import TurnPlan
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import UserInput
from gateway.pipeline.upstreams import TurnSeat, UpstreamPool
from gateway.store.records import TurnRecord
from gateway.store.voices import SpokenVoice
from gateway.tasks import cancel
from services.common.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from services.common.wire.audio import FRAME_SAMPLES
from tests.support.fake_calls import FakeCall, FakeUpstreamPool

_LIMIT_S = 300.0
_SPEECH = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)
_VOICE = SpokenVoice("ada", speech_gen_pb2.VoicePrompt())


def _plan(*, voice: SpokenVoice | None = _VOICE, history: tuple[TurnRecord, ...] = ()) -> TurnPlan:
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
        limit_s: float = _LIMIT_S,
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


def _admitted(checkpoint: str = "one") -> reasoner_pb2.ThinkResponse:
    return reasoner_pb2.ThinkResponse(opened=reasoner_pb2.ThinkOpened(checkpoint_fingerprint=checkpoint))


def _thought(index: int, text: str, *, last: bool = False) -> reasoner_pb2.ThinkResponse:
    thought = reasoner_pb2.Thought(index=index, token_id=10 + index, text=text, last=last)
    if not index:
        thought.heard.prompt_tokens = 30
    return reasoner_pb2.ThinkResponse(thought=thought)


def _think_done() -> reasoner_pb2.ThinkResponse:
    return reasoner_pb2.ThinkResponse(done=reasoner_pb2.ThinkDone(reason=generation_pb2.END_REASON_EOS))


def _opened(*, takes_groups: bool = False) -> speech_gen_pb2.SpeakResponse:
    opened = speech_gen_pb2.SpeakOpened(voice_fingerprint=_VOICE.fingerprint("one"), takes_groups=takes_groups)
    return speech_gen_pb2.SpeakResponse(opened=opened)


def _pcm(samples: int) -> codec_pb2.DecodeResponse:
    return codec_pb2.DecodeResponse(pcm=Pcm(data=bytes(2 * samples)))


def _status(code: grpc.StatusCode) -> aio.AioRpcError:
    trailers = aio.Metadata(("retry-after-ms", "1000"))  # of a service that is full
    return aio.AioRpcError(code, aio.Metadata(), trailers, details="refused")


async def test_the_reasoner_is_called_at_once_and_the_other_two_from_commit_and_admission_on() -> None:
    running = RunningTurn(_plan())
    think = await running.upstreams.reasoner.calls.get()
    assert (await think.requests.get()).open.session_id == "session"
    assert (await think.requests.get()).text == "hello"
    running.source.commit()
    assert (await think.requests.get()).HasField("commit")
    assert running.upstreams.speech_gen.calls.empty()
    assert running.upstreams.codec.calls.empty()
    think.answer(_admitted())
    speak, decode = await running.upstreams.speech_gen.calls.get(), await running.upstreams.codec.calls.get()
    speaking, decoding = (await speak.requests.get()).open, (await decode.requests.get()).open
    assert speaking.voice_fingerprint == _VOICE.fingerprint("one")
    assert decoding.encoding == AUDIO_ENCODING_PCM_S16LE
    assert speaking.checkpoint_fingerprint == decoding.checkpoint_fingerprint == "one"
    assert running.upstreams.speech_gen.checkpoints == running.upstreams.codec.checkpoints == {"one"}
    await cancel(running.task)
    assert think.cancelled
    assert speak.cancelled
    assert decode.cancelled


async def test_thoughts_become_frames_and_frames_become_speech() -> None:
    running = RunningTurn(_plan())
    running.source.commit()
    think, speak, decode = await _calls(running)
    think.answer(_thought(0, "Hi"), _thought(1, "", last=True), _think_done())
    think.end()
    speak.answer(_opened())
    assert (await _message(speak, "thought")).thought.token_id == 10
    frames = CodeFrames(first_frame=0, codes=[1] * 8)
    speak.answer(
        speech_gen_pb2.SpeakResponse(frames=frames),
        speech_gen_pb2.SpeakResponse(done=speech_gen_pb2.SpeakDone(reason=generation_pb2.END_REASON_EOS, frames=1)),
    )
    assert (await _message(decode, "frames")).frames == frames
    decode.answer(_pcm(FRAME_SAMPLES))
    decode.end()
    await running.task
    assert running.emitted == [
        TextDelta("turn", "Hi", 0),
        AudioDelta("turn", 0, FRAME_SAMPLES, bytes(2 * FRAME_SAMPLES)),
    ]
    turn = running.turn
    assert [thought.text for thought in turn.thoughts] == ["Hi", ""]
    assert (turn.prompt.prompt_tokens, turn.samples) == (30, FRAME_SAMPLES)
    assert (turn.text_end, turn.speech.reason) == (generation_pb2.END_REASON_EOS, generation_pb2.END_REASON_EOS)


async def test_thoughts_that_come_in_one_message_are_text_of_their_own_and_leave_in_one_message() -> None:
    running = RunningTurn(_plan())
    running.source.commit()
    think, speak, _ = await _calls(running)
    assert (await _message(think, "open")).open.takes_groups
    thoughts = [_thought(index, text, last=index == 2).thought for index, text in enumerate(("Good ", "day", ""))]
    think.answer(reasoner_pb2.ThinkResponse(thoughts=reasoner_pb2.Thoughts(thoughts=thoughts)), _think_done())
    think.end()
    speak.answer(_opened(takes_groups=True))
    sent = (await _message(speak, "thoughts")).thoughts.thoughts
    assert [thought.token_id for thought in sent] == [10, 11, 12]
    assert running.emitted == [TextDelta("turn", "Good ", 0), TextDelta("turn", "day", 160)]
    assert [thought.text for thought in running.turn.thoughts] == ["Good ", "day", ""]
    await cancel(running.task)


async def test_a_stop_sequence_within_a_message_ends_the_text_before_it() -> None:
    running = RunningTurn(replace(_plan(), stop=("day",)))
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    thoughts = [_thought(index, text).thought for index, text in enumerate(("Good ", "day", " day"))]
    think.answer(_admitted(), reasoner_pb2.ThinkResponse(thoughts=reasoner_pb2.Thoughts(thoughts=thoughts)))
    speak = await running.upstreams.speech_gen.calls.get()
    speak.answer(_opened())
    assert (await _message(speak, "thought")).thought.token_id == 10
    assert running.emitted == [TextDelta("turn", "Good ", 0)]
    assert running.turn.text_end == generation_pb2.END_REASON_EOS
    await cancel(running.task)


async def test_a_turn_that_is_not_spoken_calls_the_reasoner_alone() -> None:
    running = RunningTurn(_plan(voice=None))
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    think.answer(_thought(0, "Hi"), _think_done())
    think.end()
    await running.task
    assert running.upstreams.speech_gen.calls.empty()
    assert running.upstreams.codec.calls.empty()


async def test_a_half_turn_gives_its_slot_back_and_starts_again_whole_with_the_commit() -> None:
    running = RunningTurn(_plan(), input_idle_s=0.05)
    half = await running.upstreams.reasoner.calls.get()
    half.answer(_admitted("one"))
    await _cancelled(half)
    running.source.commit()
    whole = await running.upstreams.reasoner.calls.get()
    assert (await _message(whole, "text")).text == "hello"
    assert (await _message(whole, "commit")).HasField("commit")
    whole.answer(_admitted("two"))
    await running.upstreams.speech_gen.calls.get()
    assert running.turn.checkpoint == "two", "the other calls go to the checkpoint of the slot that stays"
    await cancel(running.task)


async def test_a_half_turn_without_a_slot_gets_one_again_when_speech_comes() -> None:
    running = RunningTurn(_plan(), input_idle_s=0.05)
    await _cancelled(await running.upstreams.reasoner.calls.get())
    running.source.add_audio(b"\1\0" * 16_000)
    again = await running.upstreams.reasoner.calls.get()
    assert (await _message(again, "text")).text == "hello"
    await cancel(running.task)


async def test_a_committed_turn_keeps_its_slot_however_long_the_reply_takes() -> None:
    running = RunningTurn(_plan(voice=None), input_idle_s=0.01)
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    await asyncio.sleep(0.1)
    assert not think.cancelled
    think.answer(_thought(0, "Hi"))
    think.end()
    await running.task
    assert running.upstreams.reasoner.calls.empty()


async def test_a_call_refused_before_its_first_response_is_made_again() -> None:
    running = RunningTurn(_plan(voice=None))
    running.source.commit()
    (await running.upstreams.reasoner.calls.get()).answer(_status(grpc.StatusCode.UNAVAILABLE))
    again = await running.upstreams.reasoner.calls.get()
    again.answer(_thought(0, "Hi"))
    again.end()
    await running.task
    assert (await _message(again, "text")).text == "hello"


async def test_a_call_that_fails_after_its_first_thought_fails_the_turn_and_names_the_upstream() -> None:
    running = RunningTurn(_plan(voice=None))
    running.source.commit()
    (await running.upstreams.reasoner.calls.get()).answer(_thought(0, "Hi"), _status(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(Unavailable, match="reasoner went away"):
        await running.task


async def test_a_replica_without_the_voice_gets_the_whole_prompt() -> None:
    running = RunningTurn(_plan())
    running.source.commit()
    _, first, _ = await _calls(running)
    assert (await _message(first, "open")).open.WhichOneof("voice") == "voice_fingerprint"
    first.answer(_status(grpc.StatusCode.NOT_FOUND))
    second = await running.upstreams.speech_gen.calls.get()
    assert (await _message(second, "open")).open.WhichOneof("voice") == "voice_prompt"
    await cancel(running.task)


async def test_history_without_room_is_halved_and_counted() -> None:
    history = tuple(TurnRecord(f"turn-{index}", user=(f"question {index}",)) for index in range(3))
    running = RunningTurn(_plan(voice=None, history=history))
    running.source.commit()
    whole = await running.upstreams.reasoner.calls.get()
    assert len((await _message(whole, "open")).open.history) == 3
    whole.answer(_status(grpc.StatusCode.OUT_OF_RANGE))
    shorter = await running.upstreams.reasoner.calls.get()
    assert [message.parts[0].text for message in (await _message(shorter, "open")).open.history] == ["question 2"]
    assert running.turn.dropped_turns == 2
    await cancel(running.task)


async def test_the_time_limit_counts_from_the_first_input_and_the_error_names_it() -> None:
    running = RunningTurn(_plan(), began_before_s=_LIMIT_S - 0.05)
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    with pytest.raises(DeadlineExceeded, match="CHROMA_TURN_LIMIT_S is 300 s"):
        await running.task
    assert think.cancelled


async def test_all_calls_of_a_turn_share_its_deadline() -> None:
    running = RunningTurn(_plan(), began_before_s=200.0)
    running.source.commit()
    for call in await _calls(running):
        assert 90 < call.timeout_s <= 101, "what is left of the turn's 300 s, and a second for the turn's own error"
    await cancel(running.task)


class OneSeat:
    """A share of one turn, which another turn may have."""

    def __init__(self, *, is_taken: bool = False) -> None:
        self.is_taken = is_taken

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        if self.is_taken:
            raise ResourceExhausted("the share is taken")
        self.is_taken = True
        yield
        self.is_taken = False


async def test_a_turn_keeps_its_seat_to_the_end_of_its_speech() -> None:
    seat = OneSeat()
    running = RunningTurn(_plan(), seat=seat)
    running.source.commit()
    think, speak, decode = await _calls(running)
    think.answer(_thought(0, "Hi", last=True), _think_done())
    think.end()
    speak.answer(_opened())
    await _message(speak, "thought")
    assert seat.is_taken
    done = speech_gen_pb2.SpeakDone(reason=generation_pb2.END_REASON_EOS, frames=1)
    frames = CodeFrames(first_frame=0, codes=[1] * 8)
    speak.answer(speech_gen_pb2.SpeakResponse(frames=frames), speech_gen_pb2.SpeakResponse(done=done))
    speak.end()
    decode.answer(_pcm(FRAME_SAMPLES))
    decode.end()
    await running.task
    assert not seat.is_taken


async def test_a_turn_whose_input_stops_gives_its_seat_back_and_takes_it_again_at_the_commit() -> None:
    seat = OneSeat()
    running = RunningTurn(_plan(voice=None), input_idle_s=0.01, seat=seat)
    first = await running.upstreams.reasoner.calls.get()
    while not first.cancelled or seat.is_taken:  # noqa: ASYNC110  # a cancelled call sets no event
        await asyncio.sleep(0)
    running.source.commit()
    again = await running.upstreams.reasoner.calls.get()
    assert seat.is_taken
    again.answer(_thought(0, "Hi", last=True), _think_done())
    again.end()
    await running.task
    assert not seat.is_taken


async def test_a_turn_that_finds_its_share_taken_calls_nothing_and_tries_once_more_at_the_commit() -> None:
    seat = OneSeat(is_taken=True)
    free, full = (RunningTurn(_plan(voice=None), seat=seat) for _ in range(2))
    for _ in range(10):
        await asyncio.sleep(0)
    assert free.upstreams.reasoner.calls.empty()
    full.source.commit()
    with pytest.raises(ResourceExhausted, match="the share is taken"):
        await full.task
    seat.is_taken = False
    free.source.commit()
    await free.upstreams.reasoner.calls.get()
    await cancel(free.task)


async def test_a_full_upstream_fails_the_turn_once_it_has_begun() -> None:
    running = RunningTurn(_plan(voice=None))
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    think.answer(_thought(0, "Hi"), _status(grpc.StatusCode.RESOURCE_EXHAUSTED))
    with pytest.raises(ResourceExhausted) as full:
        await running.task
    assert full.value.message == "reasoner: refused"


async def test_a_second_reasoner_of_another_checkpoint_is_not_taken() -> None:
    running = RunningTurn(_plan())
    running.source.commit()
    first, _, _ = await _calls(running)
    first.answer(_status(grpc.StatusCode.UNAVAILABLE))
    other = await running.upstreams.reasoner.calls.get()
    other.answer(_admitted("other"), _thought(0, "Hi"))
    fitting = await running.upstreams.reasoner.calls.get()
    assert other.cancelled
    assert running.turn.thoughts == []
    assert (await _message(fitting, "text")).text == "hello"
    await cancel(running.task)


async def _calls(running: RunningTurn) -> tuple[FakeCall, FakeCall, FakeCall]:
    """The calls of a committed turn, once the reasoner has admitted it."""
    think = await running.upstreams.reasoner.calls.get()
    think.answer(_admitted())
    return think, await running.upstreams.speech_gen.calls.get(), await running.upstreams.codec.calls.get()


async def _cancelled(call: FakeCall) -> None:
    """Wait until the turn has ended this call."""
    async with asyncio.timeout(30):
        while not call.cancelled:  # noqa: ASYNC110  # the fake call has no event for it
            await asyncio.sleep(0.01)


async def _message(call: FakeCall, kind: str) -> Any:
    """The next request of this kind."""
    while True:
        request = await call.requests.get()
        assert request is not aio.EOF, f"the requests ended without {kind}"
        if request.WhichOneof("request") == kind:
            return request
