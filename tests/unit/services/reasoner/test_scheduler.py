"""Which requests do what next: fair steps, urgent prompts first, a preempted request when it fits, transcripts last."""

from __future__ import annotations

import time

import pytest

from services.common.errors import ResourceExhausted
from services.reasoner.messages import Audio, Commit, Text
from services.reasoner.model.prompt import ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.request import ThinkStream
from services.reasoner.runner import ThinkRunner
from services.reasoner.scheduler import LOW_PRIORITY_CHUNKS, LOW_PRIORITY_PREFILL
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.thinking import admitted, new_runner, step_once, tone, turn


async def test_steps_alternate_while_a_thought_is_due_and_a_prompt_is_long(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, max_prefill=4)
    talker = admitted(runner, turn(template, max_thoughts=64), [Text("What?"), Commit()])
    while not talker.state.token_ids:
        step_once(runner, 0.0)
    admitted(runner, turn(template), [Text("What? " * 40), Commit()])
    late_s = time.monotonic() + 100.0
    assert [step_once(runner, late_s) for _ in range(20)] == ["think", "prefill"] * 10


async def test_first_thought_comes_before_text_that_is_far_ahead(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, max_prefill=4)
    talker = admitted(runner, turn(template, max_thoughts=64), [Text("What?"), Commit()])
    while len(talker.state.token_ids) < 20:  # 3.2 s of speech
        step_once(runner, 0.0)
    listener = admitted(runner, turn(template), [Text("What? " * 40), Commit()])
    now_s = talker.state.first_thought_s
    kinds: list[str] = []
    while not listener.state.token_ids:
        kinds.append(step_once(runner, now_s))
    assert set(kinds) == {"prefill"}
    assert step_once(runner, now_s) == "think"


async def test_committed_turn_is_prefilled_before_those_still_speaking(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, max_prefill=8)
    speaking = admitted(runner, turn(template), [Text("What? " * 40), Audio(tone(0.5))])
    committed = admitted(runner, turn(template), [Text("What? " * 40), Commit()])
    while not committed.state.token_ids:
        step_once(runner, 0.0)
    assert runner.kv.lengths[speaking.state.slot] <= 8


async def test_everybodys_microphone_is_taken_in_between_two_steps(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    """Pieces of 80 ms are many and cheap: none waits for a later step because others came first."""
    runner = new_runner(golden_thinker, tokenizer)
    streams: list[ThinkStream] = []
    for _ in range(24):
        pieces = [Audio(piece) for piece in tone(0.48).split(1_280)]
        streams.append(admitted(runner, turn(template), pieces))
    batch = runner.schedule(time.monotonic())
    assert batch is not None
    assert runner.describe(batch) == ("intake", 24)
    runner.step(batch)
    assert [len(stream.inbox) for stream in streams] == [0] * 24
    for stream in streams:
        runner.release(stream)


async def test_intake_and_other_steps_alternate_while_input_keeps_coming(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, max_prefill=4)
    talker = admitted(runner, turn(template, max_thoughts=64), [Text("What?"), Commit()])
    while not talker.state.token_ids:
        step_once(runner, 0.0)
    kinds: list[str] = []
    speaker = admitted(runner, turn(template), [])
    for _ in range(8):
        speaker.inbox.append(Audio(tone(0.08)))
        batch = runner.schedule(time.monotonic() + 100.0)
        assert batch is not None
        runner.step(batch)
        kinds.append(runner.describe(batch)[0])
    assert kinds[::2] == ["intake"] * 4
    assert "intake" not in kinds[1::2]


async def test_stream_that_an_intake_did_not_reach_is_first_in_the_next(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer)
    streams = [admitted(runner, turn(template), [Audio(tone(18.0))]) for _ in range(3)]
    first = runner.schedule(0.0)
    assert first is not None
    assert first.intake == streams
    runner.step(first)
    second = runner.schedule(0.0)
    assert second is not None
    assert second.intake == [streams[1], streams[2], streams[0]]


async def test_preempted_request_waits_until_all_its_positions_fit(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, pages=25)
    old, new = (admitted(runner, turn(template, max_thoughts=60), [Audio(tone(3.5)), Commit()]) for _ in range(2))
    while not new.state.preempted:
        step_once(runner, 0.0)
    assert not old.state.preempted
    while not old.state.end_reason:
        step_once(runner, 0.0)
        assert new.state.preempted
    runner.release(old)
    step_once(runner, 0.0)
    assert not new.state.preempted


def next_streams(runner: ThinkRunner, now_s: float = 0.0) -> set[ThinkStream]:
    """Run the next step and return the streams that took part in it."""
    batch = runner.schedule(now_s)
    assert batch is not None
    streams = set(runner.streams_of(batch))
    runner.step(batch)
    return streams


async def test_transcripts_take_no_step_while_any_other_turn_has_work(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, max_prefill=8, low_priority_slots=2)
    transcript = admitted(runner, turn(template, low_priority=True), [Audio(tone(4.5)), Commit()])
    for _ in range(2):  # it has begun
        assert next_streams(runner) == {transcript}
    reply = admitted(runner, turn(template, max_thoughts=20), [Text("What? " * 40), Audio(tone(4.5)), Commit()])
    speaker = admitted(runner, turn(template), [Audio(tone(3.0))])
    while not reply.state.end_reason:
        assert transcript not in next_streams(runner, time.monotonic())
    speaker.inbox.append(Audio(tone(0.08)))
    assert next_streams(runner) == {speaker}
    runner.release(reply)
    runner.release(speaker)
    while not transcript.state.end_reason:
        assert next_streams(runner) == {transcript}


async def test_a_transcript_uses_the_steps_that_a_full_outbox_leaves_free(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, low_priority_slots=2)
    reply = admitted(runner, turn(template), [Text("What?"), Commit()])
    transcript = admitted(runner, turn(template, low_priority=True), [Audio(tone(1.0)), Commit()])
    while not reply.state.token_ids:
        assert next_streams(runner) == {reply}
    reply._outbox_items = 0  # its reader is behind
    assert next_streams(runner) == {transcript}


async def test_steps_of_transcripts_are_small_since_a_step_is_not_interrupted(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, max_prefill=256, low_priority_slots=2)
    for _ in range(2):
        admitted(runner, turn(template, low_priority=True), [Text("What? " * 50), Audio(tone(7.0)), Commit()])
    encoded, prefilled = [], []
    while True:
        batch = runner.schedule(0.0)
        assert batch is not None
        if batch.think:
            break
        if batch.encode:
            encoded.append(len(batch.encode))
        elif batch.prefill:
            prefilled.append(sum(count for _, count in batch.prefill))
        runner.step(batch)
    assert set(encoded) == {LOW_PRIORITY_CHUNKS}
    assert max(prefilled) == LOW_PRIORITY_PREFILL


async def test_transcripts_and_replies_take_no_slot_from_each_other(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, slots=3, low_priority_slots=1)
    transcript = admitted(runner, turn(template, low_priority=True), [])
    with pytest.raises(ResourceExhausted, match="all 1 slots"):
        admitted(runner, turn(template, low_priority=True), [])
    assert runner.free_slots() == 2
    replies = [admitted(runner, turn(template), []) for _ in range(2)]
    with pytest.raises(ResourceExhausted, match="all 2 slots"):
        admitted(runner, turn(template), [])
    runner.release(transcript)
    assert runner.free_slots() == 0
    admitted(runner, turn(template, low_priority=True), [])
    runner.release(replies[0])
    assert runner.free_slots() == 1


async def test_a_transcript_gives_up_its_memory_first_and_waits_for_every_reply(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, pages=25, low_priority_slots=4)
    transcript = admitted(runner, turn(template, max_thoughts=60, low_priority=True), [Audio(tone(3.5)), Commit()])
    while not transcript.state.token_ids:
        next_streams(runner)
    old, new = (admitted(runner, turn(template, max_thoughts=60), [Audio(tone(3.5)), Commit()]) for _ in range(2))
    while not new.state.preempted:
        next_streams(runner)
    assert transcript.state.preempted
    assert not old.state.preempted
    with pytest.raises(ResourceExhausted, match="KV memory"):  # a reply waits for memory
        admitted(runner, turn(template), [])
    for reply in (old, new):
        while not reply.state.end_reason:
            assert transcript not in next_streams(runner)
        runner.release(reply)
    while not transcript.state.end_reason:
        assert next_streams(runner) == {transcript}


async def test_a_reply_is_admitted_while_only_a_transcript_waits_for_memory(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, pages=20, low_priority_slots=4)
    transcript = admitted(runner, turn(template, max_thoughts=60, low_priority=True), [Audio(tone(3.5)), Commit()])
    while not transcript.state.token_ids:
        next_streams(runner)
    reply = admitted(runner, turn(template, max_thoughts=30), [Audio(tone(3.5)), Commit()])
    while not transcript.state.preempted:
        next_streams(runner)
    assert not reply.state.preempted
    with pytest.raises(ResourceExhausted, match="KV memory"):
        admitted(runner, turn(template, low_priority=True), [])
    admitted(runner, turn(template), [])
