"""The record and the last event of a turn."""

from __future__ import annotations

from typing import cast

import pytest

from chroma.v1.generation_pb2 import END_REASON_EOS, END_REASON_LIMIT, EndReason
from chroma.v1.reasoner_pb2 import Thought
from gateway.conversation.output.events import Outcome
from gateway.conversation.turns.turn_report import done_event, record_of
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import UserInput
from gateway.pipeline.upstreams import UpstreamPool
from gateway.text.domain import SpeechDomain
from services.common.wire.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ
from tests.support.fake_calls import FakeUpstreamPool


async def _ignore(delta: object) -> None:
    raise AssertionError("nothing is emitted")


@pytest.fixture
def turn() -> Turn:
    """A turn whose reply has two words and im_end, and six frames of speech."""
    source = UserInput(None, max_audio_s=1, max_chars=100)
    source.add_text("hello")
    turn = Turn("turn-1", source, cast(UpstreamPool, FakeUpstreamPool()), _ignore, limit_s=60, input_idle_s=60)
    turn.thoughts = [
        Thought(token_id=10, text="Good "),
        Thought(token_id=11, text="day"),
        Thought(token_id=7, last=True),
    ]
    turn.samples = 6 * FRAME_SAMPLES
    turn.prompt.prompt_tokens = 30
    return turn


@pytest.mark.parametrize(("reason", "tokens"), [(END_REASON_EOS, (10, 11)), (END_REASON_LIMIT, (10, 11, 7))])
async def test_the_record_leaves_im_end_out_and_keeps_the_last_token_of_a_reply_cut_short(
    turn: Turn, reason: EndReason.ValueType, tokens: tuple[int, ...]
) -> None:
    turn.text_end = reason
    assert record_of(turn, turn.samples).token_ids == tokens


async def test_the_record_says_how_much_of_the_reply_the_user_heard(turn: Turn) -> None:
    turn.text_end = END_REASON_EOS
    assert record_of(turn, 2 * FRAME_SAMPLES).heard_text == "Good "
    assert record_of(turn, 0).heard_text == ""
    assert record_of(turn, None).heard_text == "Good day", "a reply without speech was read"


async def test_the_last_event_tells_what_was_sent_and_what_was_heard(turn: Turn) -> None:
    record = record_of(turn, 2 * FRAME_SAMPLES)
    done = done_event(
        turn,
        record,
        Outcome.INTERRUPTED,
        sent_samples=SAMPLE_RATE_HZ,
        error=None,
        interrupted_by="speech",
        recorded=True,
        dropped_turns=2,
        domain=SpeechDomain(sentences=["Good morning."]),
    )
    assert done.out_of_domain == ("Good day",)
    assert (done.text, done.heard_text, done.output_audio_s) == ("Good day", "Good ", 1.0)
    assert (done.input_tokens, done.output_tokens, done.dropped_turns, done.recorded) == (30, 3, 2, True)
