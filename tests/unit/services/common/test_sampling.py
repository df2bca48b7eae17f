"""The ranges of sampling, and what a change does to greedy parameters."""

from __future__ import annotations

import math
from typing import Any

import pytest

from services.common.errors import InvalidArgument
from services.common.sampling import SamplingParams


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", 0.0, "temperature: expected a number above 0, got 0.0; ask for greedy"),
        ("temperature", -1.0, "got -1.0"),
        ("temperature", math.nan, "got nan"),
        ("temperature", math.inf, "got inf"),
        ("top_k", 0, "top_k: expected at least 1, got 0"),
        ("top_k", -5, "got -5"),
        ("top_p", 0.0, "top_p: expected above 0 and at most 1, got 0.0"),
        ("top_p", 1.5, "got 1.5"),
        ("top_p", math.nan, "got nan"),
        ("seed", -1, "seed: expected 0 to 18446744073709551615, got -1"),
        ("seed", 2**64, "got 18446744073709551616"),
    ],
)
def test_bad_sampling_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SamplingParams(**{field: value})


def test_a_wish_for_drawn_codes_turns_greedy_off() -> None:
    greedy = SamplingParams(greedy=True)
    assert greedy.changed(temperature=0.7) == SamplingParams(temperature=0.7)
    assert greedy.changed(seed=3) == SamplingParams(greedy=True, seed=3)
    assert greedy.changed(greedy=True, top_k=3).greedy
