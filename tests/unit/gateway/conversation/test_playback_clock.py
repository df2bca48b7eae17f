import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.playback_clock import PlaybackClock
from services.common.wire.audio import FRAME_S, FRAME_SAMPLES


def hear(times_s: list[float]) -> PlaybackClock:
    """A listener who gets one frame at each of these times."""
    listener = PlaybackClock()
    for index, at_s in enumerate(times_s):
        listener.receive(index * FRAME_SAMPLES, at_s)
    return listener


def test_sound_that_comes_as_fast_as_it_plays_never_runs_dry() -> None:
    listener = hear([100 + index * FRAME_S / 2 for index in range(20)])
    assert (listener.underruns, listener.silence_s, listener.first_s) == (0, 0.0, 100)


def test_a_late_piece_is_one_underrun_as_long_as_the_listener_waited() -> None:
    listener = hear([0.0, 0.08, 0.46, 0.47])
    assert listener.underruns == 1
    assert listener.silence_s == pytest.approx(0.46 - 0.16)


def test_time_waited_once_is_not_waited_again() -> None:
    listener = hear([0.0, 1.0, 1.0 + FRAME_S, 1.0 + 2 * FRAME_S])
    assert listener.silence_s == pytest.approx(1.0 - FRAME_S)


def test_the_gap_is_told_from_the_second_piece_on() -> None:
    listener = PlaybackClock()
    assert listener.receive(0, 5.0) == (None, False)
    assert listener.receive(FRAME_SAMPLES, 5.5) == (0.5, True)


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=50))
def test_a_listener_has_played_all_but_the_silence_when_the_last_piece_begins(gaps_s: list[float]) -> None:
    times_s = [sum(gaps_s[: index + 1]) for index in range(len(gaps_s))]
    listener = hear(times_s)
    starts_s = times_s[0] + listener.silence_s + (len(times_s) - 1) * FRAME_S
    assert starts_s >= times_s[-1] - 1e-9
    assert (listener.underruns == 0) == (listener.silence_s == 0)
