"""The state of many streams."""

from __future__ import annotations

from services.codec.model.mimi import Mimi


def test_a_reset_prepares_one_slot_and_leaves_the_others(mimi: Mimi) -> None:
    state = mimi.decoder.new_state(3, step_frames=2)
    state.conv_rows.fill_(1.0)
    state.window.positions.fill_(7)
    state.reset(1)
    assert state.slots == 3
    assert state.conv_rows.sum(dim=1).bool().tolist() == [True, False, True]
    assert state.window.positions.tolist() == [7, 0, 7]


def test_the_ring_holds_the_window_and_a_whole_step(mimi: Mimi) -> None:
    small, large = (mimi.decoder.new_state(1, step_frames=frames).window.capacity for frames in (1, 16))
    assert small >= mimi.decoder._transformer._window + 1
    assert large >= mimi.decoder._transformer._window + 31
