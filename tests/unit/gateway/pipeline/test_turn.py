"""One turn over fake calls: what is asked of each upstream, in which order, and how the turn ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest
from grpc import aio

from chroma.v1 import generation_pb2, reasoner_pb2, speech_gen_pb2
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, CodeFrames
from gateway.pipeline.deltas import AudioDelta, TextDelta, TextPiece
from gateway.store.records import TurnRecord
from gateway.tasks import cancel
from services.common.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from services.common.wire.audio import FRAME_SAMPLES
from tests.support.running_turn import (
    LIMIT_S,
    VOICE,
    RunningTurn,
    admitted,
    calls_of,
    next_request,
    opened,
    pcm,
    plan,
    think_done,
    thought,
    until_cancelled,
)


def _status(code: grpc.StatusCode) -> aio.AioRpcError:
    trailers = aio.Metadata(("retry-after-ms", "1000"))  # of a service that is full
    return aio.AioRpcError(code, aio.Metadata(), trailers, details="refused")


async def test_the_reasoner_is_called_at_once_and_the_other_two_from_commit_and_admission_on() -> None:
    running = RunningTurn(plan())
    think = await running.upstreams.reasoner.calls.get()
    assert (await think.requests.get()).open.session_id == "session"
    assert (await think.requests.get()).text == "hello"
    running.source.commit()
    assert (await think.requests.get()).HasField("commit")
    assert running.upstreams.speech_gen.calls.empty()
    assert running.upstreams.codec.calls.empty()
    think.answer(admitted())
    speak, decode = await running.upstreams.speech_gen.calls.get(), await running.upstreams.codec.calls.get()
    speaking, decoding = (await speak.requests.get()).open, (await decode.requests.get()).open
    assert speaking.voice_fingerprint == VOICE.fingerprint("one")
    assert decoding.encoding == AUDIO_ENCODING_PCM_S16LE
    assert speaking.checkpoint_fingerprint == decoding.checkpoint_fingerprint == "one"
    assert running.upstreams.speech_gen.checkpoints == running.upstreams.codec.checkpoints == {"one"}
    await cancel(running.task)
    assert think.cancelled
    assert speak.cancelled
    assert decode.cancelled


async def test_the_last_message_of_the_input_is_the_commit_for_a_replica_that_says_so() -> None:
    for takes in (True, False):
        running = RunningTurn(plan())
        think = await running.upstreams.reasoner.calls.get()
        think.answer(admitted(takes_ends_turn=takes))
        assert (await next_request(think, "text")).text == "hello"
        running.source.add_text("again")
        running.source.commit()
        again = await next_request(think, "text")
        assert (again.text, again.ends_turn) == ("again", takes)
        if not takes:
            await next_request(think, "commit")
        await running.upstreams.speech_gen.calls.get()
        await cancel(running.task)


async def test_thoughts_become_frames_and_frames_become_speech() -> None:
    running = RunningTurn(plan())
    running.source.commit()
    think, speak, decode = await calls_of(running)
    think.answer(thought(0, "Hi"), thought(1, "", last=True), think_done())
    think.end()
    speak.answer(opened())
    assert (await next_request(speak, "thought")).thought.token_id == 10
    frames = CodeFrames(first_frame=0, codes=[1] * 8)
    speak.answer(
        speech_gen_pb2.SpeakResponse(frames=frames),
        speech_gen_pb2.SpeakResponse(done=speech_gen_pb2.SpeakDone(reason=generation_pb2.END_REASON_EOS, frames=1)),
    )
    assert (await next_request(decode, "frames")).frames == frames
    decode.answer(pcm(FRAME_SAMPLES))
    decode.end()
    await running.task
    assert running.emitted == [
        TextDelta("turn", "Hi", 0),
        AudioDelta("turn", 0, FRAME_SAMPLES, bytes(2 * FRAME_SAMPLES)),
    ]
    turn = running.turn
    assert [made.text for made in turn.thoughts] == ["Hi", ""]
    assert (turn.prompt.prompt_tokens, turn.samples) == (30, FRAME_SAMPLES)
    assert (turn.text_end, turn.speech.reason) == (generation_pb2.END_REASON_EOS, generation_pb2.END_REASON_EOS)


async def test_thoughts_that_come_in_one_message_leave_in_one_message_and_their_text_keeps_its_times() -> None:
    running = RunningTurn(plan())
    running.source.commit()
    think, speak, _ = await calls_of(running)
    assert (await next_request(think, "open")).open.takes_groups
    thoughts = [thought(index, text, last=index == 2).thought for index, text in enumerate(("Good ", "day", ""))]
    think.answer(reasoner_pb2.ThinkResponse(thoughts=reasoner_pb2.Thoughts(thoughts=thoughts)), think_done())
    think.end()
    speak.answer(opened(takes_groups=True))
    sent = (await next_request(speak, "thoughts")).thoughts.thoughts
    assert [made.token_id for made in sent] == [10, 11, 12]
    parts = TextPiece("Good ", 0), TextPiece("day", 160)
    assert running.emitted == [TextDelta("turn", "Good day", 0, parts)]
    assert [made.text for made in running.turn.thoughts] == ["Good ", "day", ""]
    await cancel(running.task)


async def test_a_stop_sequence_within_a_message_ends_the_text_before_it() -> None:
    running = RunningTurn(replace(plan(), stop=("day",)))
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    thoughts = [thought(index, text).thought for index, text in enumerate(("Good ", "day", " day"))]
    think.answer(admitted(), reasoner_pb2.ThinkResponse(thoughts=reasoner_pb2.Thoughts(thoughts=thoughts)))
    speak = await running.upstreams.speech_gen.calls.get()
    speak.answer(opened())
    assert (await next_request(speak, "thought")).thought.token_id == 10
    assert running.emitted == [TextDelta("turn", "Good ", 0)]
    assert running.turn.text_end == generation_pb2.END_REASON_EOS
    await cancel(running.task)


async def test_a_turn_that_is_not_spoken_calls_the_reasoner_alone() -> None:
    running = RunningTurn(plan(voice=None))
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    think.answer(thought(0, "Hi"), think_done())
    think.end()
    await running.task
    assert running.upstreams.speech_gen.calls.empty()
    assert running.upstreams.codec.calls.empty()


async def test_a_half_turn_gives_its_slot_back_and_starts_again_whole_with_the_commit() -> None:
    running = RunningTurn(plan(), input_idle_s=0.05)
    half = await running.upstreams.reasoner.calls.get()
    half.answer(admitted("one"))
    await until_cancelled(half)
    running.source.commit()
    whole = await running.upstreams.reasoner.calls.get()
    assert (await next_request(whole, "text")).text == "hello"
    assert (await next_request(whole, "commit")).HasField("commit")
    whole.answer(admitted("two"))
    await running.upstreams.speech_gen.calls.get()
    assert running.turn.checkpoint == "two", "the other calls go to the checkpoint of the slot that stays"
    await cancel(running.task)


async def test_a_half_turn_without_a_slot_gets_one_again_when_speech_comes() -> None:
    running = RunningTurn(plan(), input_idle_s=0.05)
    await until_cancelled(await running.upstreams.reasoner.calls.get())
    running.source.add_audio(b"\1\0" * 16_000)
    again = await running.upstreams.reasoner.calls.get()
    assert (await next_request(again, "text")).text == "hello"
    await cancel(running.task)


async def test_a_committed_turn_keeps_its_slot_however_long_the_reply_takes() -> None:
    running = RunningTurn(plan(voice=None), input_idle_s=0.01)
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    await asyncio.sleep(0.1)
    assert not think.cancelled
    think.answer(thought(0, "Hi"))
    think.end()
    await running.task
    assert running.upstreams.reasoner.calls.empty()


async def test_a_call_refused_before_its_first_response_is_made_again() -> None:
    running = RunningTurn(plan(voice=None))
    running.source.commit()
    (await running.upstreams.reasoner.calls.get()).answer(_status(grpc.StatusCode.UNAVAILABLE))
    again = await running.upstreams.reasoner.calls.get()
    again.answer(thought(0, "Hi"))
    again.end()
    await running.task
    assert (await next_request(again, "text")).text == "hello"


async def test_a_call_that_fails_after_its_first_thought_fails_the_turn_and_names_the_upstream() -> None:
    running = RunningTurn(plan(voice=None))
    running.source.commit()
    (await running.upstreams.reasoner.calls.get()).answer(thought(0, "Hi"), _status(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(Unavailable, match="reasoner went away"):
        await running.task


async def test_a_replica_without_the_voice_gets_the_whole_prompt() -> None:
    running = RunningTurn(plan())
    running.source.commit()
    _, first, _ = await calls_of(running)
    assert (await next_request(first, "open")).open.WhichOneof("voice") == "voice_fingerprint"
    first.answer(_status(grpc.StatusCode.NOT_FOUND))
    second = await running.upstreams.speech_gen.calls.get()
    assert (await next_request(second, "open")).open.WhichOneof("voice") == "voice_prompt"
    await cancel(running.task)


async def test_history_without_room_is_halved_and_counted() -> None:
    history = tuple(TurnRecord(f"turn-{index}", user=(f"question {index}",)) for index in range(3))
    running = RunningTurn(plan(voice=None, history=history))
    running.source.commit()
    whole = await running.upstreams.reasoner.calls.get()
    assert len((await next_request(whole, "open")).open.history) == 3
    whole.answer(_status(grpc.StatusCode.OUT_OF_RANGE))
    shorter = await running.upstreams.reasoner.calls.get()
    assert [message.parts[0].text for message in (await next_request(shorter, "open")).open.history] == ["question 2"]
    assert running.turn.dropped_turns == 2
    await cancel(running.task)


async def test_the_time_limit_counts_from_the_first_input_and_the_error_names_it() -> None:
    running = RunningTurn(plan(), began_before_s=LIMIT_S - 0.05)
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    with pytest.raises(DeadlineExceeded, match="CHROMA_TURN_LIMIT_S is 300 s"):
        await running.task
    assert think.cancelled


async def test_all_calls_of_a_turn_share_its_deadline() -> None:
    running = RunningTurn(plan(), began_before_s=200.0)
    running.source.commit()
    for call in await calls_of(running):
        assert 90 < call.timeout_s <= 101, "what is left of the turn's 300 s, and a second for the turn's own error"
    await cancel(running.task)


async def test_a_full_upstream_fails_the_turn_once_it_has_begun() -> None:
    running = RunningTurn(plan(voice=None))
    running.source.commit()
    think = await running.upstreams.reasoner.calls.get()
    think.answer(thought(0, "Hi"), _status(grpc.StatusCode.RESOURCE_EXHAUSTED))
    with pytest.raises(ResourceExhausted) as full:
        await running.task
    assert full.value.message == "reasoner: refused"


async def test_a_second_reasoner_of_another_checkpoint_is_not_taken() -> None:
    running = RunningTurn(plan())
    running.source.commit()
    first, _, _ = await calls_of(running)
    first.answer(_status(grpc.StatusCode.UNAVAILABLE))
    other = await running.upstreams.reasoner.calls.get()
    other.answer(admitted("other"), thought(0, "Hi"))
    fitting = await running.upstreams.reasoner.calls.get()
    assert other.cancelled
    assert running.turn.thoughts == []
    assert (await next_request(fitting, "text")).text == "hello"
    await cancel(running.task)
