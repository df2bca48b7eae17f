"""The metrics and the log line of one turn."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from chroma.v1.reasoner_pb2 import Thought
from gateway.conversation.events import Outcome, TurnDone
from gateway.conversation.playback_clock import PlaybackClock
from gateway.conversation.turn_metrics import speech_sent, turn_ended
from gateway.pipeline.deltas import AudioDelta
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.pipeline.upstreams import UpstreamPool
from services.common.errors import ResourceExhausted
from services.common.wire.audio import SAMPLE_RATE_HZ
from tests.support.fake_calls import FakeUpstreamPool


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"chroma_voice_{name}", labels) or 0.0


async def _ignore(delta: object) -> None:
    raise AssertionError("nothing is emitted")


def _turn(source: UserInput | ForcedReply) -> Turn:
    turn = Turn("turn-1", source, cast(UpstreamPool, FakeUpstreamPool()), _ignore, limit_s=60)
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


@pytest.mark.parametrize(
    ("outcome", "recorded", "counted"),
    [(Outcome.COMPLETED, False, 1), (Outcome.COMPLETED, True, 0), (Outcome.FAILED, False, 0)],
)
async def test_a_turn_that_ended_well_without_being_recorded_is_counted(
    outcome: Outcome, recorded: bool, counted: int
) -> None:
    before = _value("turns_unrecorded_total")
    turn_ended(_turn(_user_input()), TurnDone("turn-1", outcome, recorded=recorded), PlaybackClock())
    assert _value("turns_unrecorded_total") == before + counted


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


def test_a_piece_that_comes_late_is_a_gap_and_an_underrun() -> None:
    playback = PlaybackClock()
    before = _value("underruns_total"), _value("audio_gap_seconds_count")
    speech_sent(playback, AudioDelta("turn-1", 0, 1, b""))
    assert playback.first_s is not None
    playback.first_s -= 10
    playback.last_s -= 10
    speech_sent(playback, AudioDelta("turn-1", 1, 1, b""))
    assert (_value("underruns_total"), _value("audio_gap_seconds_count")) == (before[0] + 1, before[1] + 1)
