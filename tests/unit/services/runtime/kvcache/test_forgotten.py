"""A name stays forgotten for ten minutes and takes no memory after them."""

from __future__ import annotations

from services.runtime.kvcache.forgotten import FORGOTTEN_S, Forgotten


def test_a_name_is_forgotten_for_its_time_and_dropped_after_it() -> None:
    now_s = 0.0
    forgotten = Forgotten(lambda: now_s)
    forgotten.add("a")
    now_s = FORGOTTEN_S / 2
    forgotten.add("b")
    assert "a" in forgotten
    assert "c" not in forgotten
    now_s = FORGOTTEN_S
    assert "a" not in forgotten
    assert "b" in forgotten
    forgotten.add("c")
    assert len(forgotten) == 2


def test_a_name_forgotten_again_starts_its_time_again() -> None:
    now_s = 0.0
    forgotten = Forgotten(lambda: now_s)
    forgotten.add("a")
    now_s = FORGOTTEN_S - 1
    forgotten.add("a")
    now_s = FORGOTTEN_S + 1
    assert "a" in forgotten
