from __future__ import annotations

import re

import pytest

from chroma_voice.bench.report import charts, page
from chroma_voice.bench.report.page import cards, curves, own_charts, render
from tests.support import bench_results


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are not drawn, which takes a second or more."""
    for name in ("percentile_curves", "timeline", "gap_chart", "lines", "capacity_chart"):
        monkeypatch.setattr(charts, name, lambda *given: "<svg></svg>")
    monkeypatch.setattr(page, "server_charts", lambda *given: ["<svg></svg>"])


@pytest.mark.usefixtures("undrawn")
def test_the_page_has_the_figures_and_escapes_what_comes_from_outside() -> None:
    text = render(
        bench_results.results(broken="the target went away after 7 s: gone", target="<script>alert(1)</script>")
    )
    assert "<script" not in text
    assert "&lt;b&gt;gone&lt;/b&gt;" in text
    assert "The results are partial." in text
    assert "worker 0 was late" in text
    assert text.count("<svg></svg>") == 6
    for part in ("169 ms", "first sound, p95", "Failed turns", bench_results.PAGE, "Settings"):
        assert part in text


@pytest.mark.slow
def test_the_page_needs_no_other_file() -> None:
    text = render(bench_results.results(bench_results.capacity()))
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"|url\(([^#)][^)]*)\)|@import', text)
    assert links == []
    assert "capacity: 1 conversations a second" in text


def test_cards_mark_what_is_wrong() -> None:
    wrong = {card.label for card in cards(bench_results.summary()) if card.is_bad}
    assert wrong == {"of replies with an underrun", "failed turns"}


def test_curves_keep_hands_free_turns_apart() -> None:
    turns = bench_results.turns()
    assert [(name, len(waits)) for name, waits in curves(turns)] == [("first sound", 40), ("first piece", 40)]
    turns[0].hands_free = True
    found = [(name, len(waits)) for name, waits in curves(turns)]
    assert found == [("first sound", 39), ("first sound, hands-free", 1), ("first piece", 40)]


@pytest.mark.usefixtures("undrawn")
def test_workers_have_two_charts() -> None:
    assert len(own_charts(bench_results.measured().health)) == len(own_charts([])) == 2
