"""The metrics and the log line of one turn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from chroma.v1.reasoner_pb2 import Thought
from gateway.conversation.output.events import Outcome, TurnDone
from gateway.conversation.output.playback_clock import PlaybackClock
from gateway.conversation.turns.turn_metrics import turn_ended
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import ForcedReply, NoInput, TurnInput, UserInput
from gateway.pipeline.upstreams import UpstreamPool
from services.common.errors import ResourceExhausted
from services.common.wire.audio import SAMPLE_RATE_HZ
from tests.support.fake_calls import FakeUpstreamPool


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"chroma_voice_{name}", labels) or 0.0


async def _ignore(delta: object) -> None:
    raise AssertionError("nothing is emitted")


def _turn(source: TurnInput) -> Turn:
    turn = Turn("turn-1", source, cast(UpstreamPool, FakeUpstreamPool()), _ignore, limit_s=60, input_idle_s=60)
    turn.committed_s = 100.0
    return turn


def _user_input() -> UserInput:
    return UserInput(None, max_audio_s=1, max_chars=100)


async def test_each_part_of_the_time_to_the_first_sound_is_counted_from_the_part_before() -> None:
    turn, playback = _turn(_user_input()), PlaybackClock()
    turn.timings.heard_s, turn.timings.first_thought_s = 0.1, 0.3
    turn.timings.first_frame_s, turn.timings.first_audio_s = 0.4, 0.5
    playback.sent(0, 100.75)
    parts = ("hearing", "first_thought", "first_frame", "first_pcm", "gateway")
    before = {part: _value("stage_seconds_sum", stage=part) for part in parts}
    turn_ended(turn, TurnDone("turn-1", Outcome.COMPLETED, recorded=True), playback)
    grown = [_value("stage_seconds_sum", stage=part) - before[part] for part in parts]
    assert grown == pytest.approx([0.1, 0.2, 0.1, 0.1, 0.25])


async def test_an_interrupted_reply_counts_the_speech_that_was_not_sent() -> None:
    turn = _turn(_user_input())
    turn.samples = 3 * SAMPLE_RATE_HZ
    before = _value("barge_ins_total"), _value("unheard_audio_seconds_total")
    turn_ended(turn, TurnDone("turn-1", Outcome.INTERRUPTED, recorded=True, output_audio_s=1.0), PlaybackClock())
    assert (_value("barge_ins_total"), _value("unheard_audio_seconds_total")) == (before[0] + 1, before[1] + 2.0)


async def test_only_a_turn_that_its_session_lacks_is_counted_as_unrecorded() -> None:
    before = _value("turns_unrecorded_total")
    done = TurnDone("turn-1", Outcome.COMPLETED, recorded=False)
    turn_ended(_turn(_user_input()), done, PlaybackClock())  # as for a request without a session
    assert _value("turns_unrecorded_total") == before
    turn_ended(_turn(_user_input()), done, PlaybackClock(), unrecorded=True)
    assert _value("turns_unrecorded_total") == before + 1


async def test_a_turn_beyond_the_callers_own_limit_is_no_failure_of_the_deployment() -> None:
    def failed(status: str) -> float:
        return _value("turns_total", outcome="failed", status=status, reply="generated")

    before = failed("KEY_LIMIT"), failed("RESOURCE_EXHAUSTED")
    for resource in ("key_turns_per_minute", "total_turns_per_minute"):
        error = ResourceExhausted("one more turn", resource=resource)
        turn_ended(_turn(_user_input()), TurnDone("turn-1", Outcome.FAILED, error=error), PlaybackClock())
    assert (failed("KEY_LIMIT"), failed("RESOURCE_EXHAUSTED")) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(("make", "reply"), [(NoInput, "generated"), (lambda: ForcedReply(max_chars=9), "given")])
async def test_reply_to_the_history_is_generated_and_one_that_the_client_gives_is_not(
    make: Callable[[], TurnInput], reply: str
) -> None:
    before = _value("turns_total", outcome="completed", status="OK", reply=reply)
    turn_ended(_turn(make()), TurnDone("turn-1", Outcome.COMPLETED), PlaybackClock())
    assert _value("turns_total", outcome="completed", status="OK", reply=reply) == before + 1


async def test_the_log_line_has_the_outcome_and_the_error_but_no_words(caplog: pytest.LogCaptureFixture) -> None:
    turn = _turn(ForcedReply(max_chars=10))
    turn.thoughts = [Thought(text="secret")]
    error = ResourceExhausted("codec: full")
    with caplog.at_level(logging.INFO):
        turn_ended(turn, TurnDone("turn-1", Outcome.FAILED, error=error, text="secret"), PlaybackClock())
    (line,) = caplog.records
    fields: dict[str, Any] = line.__dict__["fields"]
    assert line.getMessage() == "turn failed: codec: full"
    assert (fields["status"], fields["reply"], fields["outcome"]) == ("RESOURCE_EXHAUSTED", "given", "failed")
    assert "secret" not in repr(line.__dict__)
