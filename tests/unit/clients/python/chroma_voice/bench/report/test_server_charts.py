from __future__ import annotations

import pytest

from chroma_voice.bench.report import server_charts as module
from chroma_voice.bench.report.server_charts import Comparison, compare, server_charts
from chroma_voice.bench.server_metrics import Scrape
from tests.support import bench_results


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chart is its title: drawing it is tested elsewhere, and slow."""
    monkeypatch.setattr(module, "lines", lambda title, series, unit: title)


SCRAPES, SUMMARY, TURNS = bench_results.scrapes(), bench_results.summary(), bench_results.turns()


def test_figures_that_both_sides_know_stand_side_by_side() -> None:
    rows = {row.what: row for row in compare(SUMMARY, SCRAPES)}
    assert rows["first sound, p50"] == Comparison("first sound, p50", "169 ms", "100 ms")
    assert rows["turns that ended"] == Comparison("turns that ended", "40", "39")
    assert compare(SUMMARY, SCRAPES[:1]) == []


def test_metrics_that_moved_are_drawn() -> None:
    titles = server_charts(SCRAPES, TURNS)
    assert titles == ["First sound, median", "conversations open", "memory of the process", "turns that ended"]
    assert server_charts(SCRAPES[:1], TURNS) == []


def test_of_another_server_what_changed_is_drawn() -> None:
    titles = set(server_charts(bench_results.scrapes("other_"), TURNS))
    assert titles == {"memory of the process", "other_conversations", "other_turns_total"}


def test_a_counter_that_began_again_is_no_negative_rate() -> None:
    readings = [Scrape(float(at_s), {"turns_total": value}, {}) for at_s, value in enumerate((5, 9, 1, 3))]
    assert module.rate(readings, "turns_total") == [(1.0, 4.0), (2.0, 0.0), (3.0, 2.0)]
