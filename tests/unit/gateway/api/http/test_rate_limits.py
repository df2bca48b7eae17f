"""What is left of a caller's limits, in OpenAI's forms."""

from __future__ import annotations

import pytest

from gateway.access.limits import LimitName
from gateway.access.usage import Quota
from gateway.api.http.rate_limits import RATE_LIMIT_HEADERS, duration, headers_of, rate_limits

QUOTAS = [
    Quota(LimitName.TURNS_PER_MINUTE, 10, 3, 59.96),
    Quota(LimitName.INPUT_AUDIO_S_PER_DAY, 100, 120, 7_265.0),
]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0ms"), (0.85, "850ms"), (12.5, "12.5s"), (59.96, "1m0s"), (360, "6m0s"), (86_340, "23h59m0s")],
)
def test_a_duration_is_written_as_openai_writes_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_headers_tell_the_limit_what_remains_and_when_it_begins_anew() -> None:
    headers = headers_of(QUOTAS)
    assert headers == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "7",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-input-audio-seconds": "100",
        "x-ratelimit-remaining-input-audio-seconds": "0",
        "x-ratelimit-reset-input-audio-seconds": "2h1m5s",
    }
    assert headers.keys() <= set(RATE_LIMIT_HEADERS)


def test_realtime_gets_the_same_numbers_under_names_that_openais_clients_know() -> None:
    (turns,) = rate_limits(QUOTAS)
    assert turns == {"name": "requests", "limit": 10, "remaining": 7, "reset_seconds": 59.96}
