"""When speech ends, and what a request may ask for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.common.errors import InvalidArgument
from services.speech_gen.model.generator import Generator, Thought
from services.speech_gen.model.speech import EndReason, Frame, Speech, SpeechEnd, SpeechRequest, most_rows
from tests.support.golden_speech import single_rows


def speech(generator: Generator) -> Speech:
    return Speech(single_rows()["basic_audio"].request(generator), 0, 0, generator)


def test_all_eos_first_frame_is_an_empty_reply(generator: Generator) -> None:
    outputs = speech(generator).hear(np.zeros(8, dtype=np.int64))
    assert outputs == [SpeechEnd(EndReason.EOS, 0, 0, 0, 0, dropped_frame=(0,) * 8)]


def test_frame_with_an_eos_codebook_0_goes_on(generator: Generator) -> None:
    codes = np.array([0, 0, 0, 0, 0, 0, 5, 0])
    assert speech(generator).hear(codes) == [Frame(0, (0, 0, 0, 0, 0, 0, 5, 0), voiced=True)]


def test_eos_on_the_last_frame_allowed_is_reported_as_eos(generator: Generator) -> None:
    one = speech(generator)
    one.frames = one.request.max_frames - 1
    frame, end = one.hear(np.array([0] * 7 + [9]))
    assert isinstance(end, SpeechEnd)
    assert isinstance(frame, Frame)
    assert (frame.voiced, end.reason, end.frames) == (False, EndReason.EOS, one.request.max_frames)


def test_thoughts_are_wanted_at_even_frames_until_the_last(generator: Generator) -> None:
    one = speech(generator)
    thought = single_rows()["basic_audio"].thoughts[0]
    wanted = []
    for frame in range(6):
        wanted.append(one.wants_thought)
        if one.wants_thought:
            one.feed(Thought(thought.token_id, thought.hidden, last=frame == 2))
        one.hear(np.ones(8, dtype=np.int64))
    assert wanted == [True, False, True, False, False, False]


@pytest.mark.parametrize("max_frames", [0, -1])
def test_max_frames_below_one_is_refused(max_frames: int, generator: Generator) -> None:
    voice = speech(generator).request.voice
    with pytest.raises(InvalidArgument, match=f"max_frames: expected at least 1, got {max_frames}"):
        SpeechRequest(voice, speech(generator).request.sampling, max_frames)


@pytest.mark.parametrize("lead_s", [0.0, -1.0, math.nan])
def test_lead_must_be_above_zero(lead_s: float, generator: Generator) -> None:
    request = speech(generator).request
    with pytest.raises(InvalidArgument, match="max_lead_s: expected a number above 0"):
        SpeechRequest(request.voice, request.sampling, 1, lead_s)


@pytest.mark.parametrize(("max_frames", "rows"), [(1, 31 + 3), (2, 31 + 4), (3, 31 + 7), (5000, 2048)])
def test_most_rows_counts_prompt_frames_and_thoughts(max_frames: int, rows: int, generator: Generator) -> None:
    request = speech(generator).request
    assert most_rows(SpeechRequest(request.voice, request.sampling, max_frames), 2048) == rows
