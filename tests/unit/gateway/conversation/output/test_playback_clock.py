"""When a client that plays a reply runs out of its speech."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from gateway.conversation.output.playback_clock import PlaybackClock, speech_sent
from gateway.pipeline.deltas import AudioDelta
from services.common.wire.audio import FRAME_S, FRAME_SAMPLES


def send(times_s: list[float]) -> PlaybackClock:
    """The clock of a client that is sent one frame at each of these times."""
    clock = PlaybackClock()
    for index, at_s in enumerate(times_s):
        clock.sent(index * FRAME_SAMPLES, at_s)
    return clock


def _counts() -> tuple[float, float]:
    """The underruns and the gaps between pieces that were counted so far."""
    names = "chroma_voice_underruns_total", "chroma_voice_audio_gap_seconds_count"
    underruns, gaps = (REGISTRY.get_sample_value(name) or 0.0 for name in names)
    return underruns, gaps


def test_sound_that_comes_as_fast_as_it_plays_never_runs_dry() -> None:
    clock = send([100 + index * FRAME_S / 2 for index in range(20)])
    assert (clock.underruns, clock.silence_s, clock.first_s) == (0, 0.0, 100)


def test_a_late_piece_is_one_underrun_as_long_as_the_client_waited() -> None:
    clock = send([0.0, 0.08, 0.46, 0.47])
    assert clock.underruns == 1
    assert clock.silence_s == pytest.approx(0.46 - 0.16)


def test_time_waited_once_is_not_waited_again() -> None:
    clock = send([0.0, 1.0, 1.0 + FRAME_S, 1.0 + 2 * FRAME_S])
    assert clock.silence_s == pytest.approx(1.0 - FRAME_S)


def test_the_gap_is_reported_from_the_second_piece_on() -> None:
    clock = PlaybackClock()
    assert clock.sent(0, 5.0) == (None, False)
    assert clock.sent(FRAME_SAMPLES, 5.5) == (0.5, True)


def test_a_pause_of_the_client_that_gives_the_text_is_no_underrun() -> None:
    complete = [False]
    clock = PlaybackClock(lambda: complete[0])
    clock.sent(0, 0.0)
    complete[0] = True  # the last piece of text comes after five seconds
    assert clock.sent(FRAME_SAMPLES, 5.0) == (5.0, False)
    assert clock.silence_s == 0
    assert clock.sent(2 * FRAME_SAMPLES, 7.0) == (2.0, True)
    assert clock.silence_s == pytest.approx(2.0 - FRAME_S)


def test_a_client_that_takes_nothing_for_a_while_makes_no_underrun() -> None:
    clock = PlaybackClock()
    clock.sent(0, 0.0)
    assert clock.sent(FRAME_SAMPLES, 4.0, blocked_s=3.95) == (pytest.approx(0.05), False)
    assert clock.sent(2 * FRAME_SAMPLES, 5.0, blocked_s=0.5) == (0.5, True)
    assert (clock.underruns, clock.silence_s) == (1, pytest.approx(0.5 + 0.05 - 2 * FRAME_S))
    assert clock.first_s == 0.0


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=50))
def test_a_client_has_played_all_but_the_silence_when_the_last_piece_begins(gaps_s: list[float]) -> None:
    times_s = [sum(gaps_s[: index + 1]) for index in range(len(gaps_s))]
    clock = send(times_s)
    starts_s = times_s[0] + clock.silence_s + (len(times_s) - 1) * FRAME_S
    assert starts_s >= times_s[-1] - 1e-9
    assert (clock.underruns == 0) == (clock.silence_s == 0)


def test_a_piece_that_comes_late_is_a_gap_and_an_underrun() -> None:
    playback = PlaybackClock()
    before = _counts()
    speech_sent(playback, AudioDelta("turn-1", 0, 1, b""))
    playback._start_s -= 10
    playback.last_s -= 10
    speech_sent(playback, AudioDelta("turn-1", 1, 1, b""))
    assert _counts() == (before[0] + 1, before[1] + 1)
