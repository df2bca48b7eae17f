"""What a request may ask for."""

from __future__ import annotations

import math

import pytest

from services.common.errors import InvalidArgument
from services.common.sampling import SamplingParams
from services.speech_gen.messages import SpeechRequest
from services.speech_gen.model.generator import Generator
from tests.support.golden_speech import single_rows


@pytest.mark.parametrize("max_frames", [0, -1])
def test_max_frames_below_one_is_refused(max_frames: int, generator: Generator) -> None:
    voice = single_rows()["basic_audio"].request(generator).voice
    with pytest.raises(InvalidArgument, match=f"max_frames: expected at least 1, got {max_frames}"):
        SpeechRequest(voice, SamplingParams(), max_frames)


@pytest.mark.parametrize("lead_s", [0.0, -1.0, math.nan])
def test_a_lead_that_is_not_above_zero_is_refused(lead_s: float, generator: Generator) -> None:
    voice = single_rows()["basic_audio"].request(generator).voice
    with pytest.raises(InvalidArgument, match="max_lead_s: expected a number above 0"):
        SpeechRequest(voice, SamplingParams(), 1, lead_s)
