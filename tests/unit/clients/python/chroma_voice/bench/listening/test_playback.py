from __future__ import annotations

import pytest

from chroma_voice.bench.listening.playback import Gap, PlaybackClock


def test_pieces_play_one_after_the_other() -> None:
    clock = PlaybackClock()
    assert clock.ends_s is None
    assert [clock.add(at_s, 0.5) for at_s in (1.0, 1.1, 1.2)] == pytest.approx([1.0, 1.5, 2.0])
    assert clock.ends_s == pytest.approx(2.5)
    assert clock.gaps == []


def test_a_late_piece_leaves_a_gap_and_moves_all_that_follows() -> None:
    clock = PlaybackClock()
    clock.add(1.0, 0.5)
    assert clock.add(2.0, 0.5) == pytest.approx(2.0)
    assert clock.add(2.1, 0.5) == pytest.approx(2.5)
    assert clock.gaps == [Gap(1.5, 0.5)]


def test_small_lateness_is_no_gap_until_it_adds_up() -> None:
    clock = PlaybackClock(tolerance_s=0.010)
    for index in range(4):
        clock.add(1.0 + 0.104 * index, 0.100)  # 4 ms later each time: 0, 4, 8 and 12 ms
    assert [(round(gap.at_s, 6), round(gap.length_s, 6)) for gap in clock.gaps] == [(1.3, 0.012)]


def test_a_buffer_delays_the_beginning() -> None:
    clock = PlaybackClock(buffer_s=0.2)
    assert clock.add(1.0, 0.1) == pytest.approx(1.2)
    clock.add(1.25, 0.1)
    assert clock.gaps == []


def test_it_knows_what_was_heard_and_when_so_much_is_heard() -> None:
    clock = PlaybackClock()
    clock.add(1.0, 0.5)
    clock.add(3.0, 0.5)
    assert [clock.heard_s(now_s) for now_s in (0.5, 1.25, 2.0, 3.25, 9.0)] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert [clock.reaches_s(heard_s) for heard_s in (0.25, 0.75)] == pytest.approx([1.25, 3.25])
    assert clock.reaches_s(1.5) is None
