from __future__ import annotations

import io

from rich.console import Console

from chroma_voice.cli.load.tables import capacity_table, result_table
from tests.support import bench_results


def shown(table: object) -> str:
    out = io.StringIO()
    Console(file=out, width=140).print(table)
    return out.getvalue()


def test_the_result_has_a_row_for_each_quantity() -> None:
    text = shown(result_table(bench_results.summary(), "host:1"))
    for part in (
        "host:1",
        "milliseconds",
        "first sound heard",
        "gap in a reply",
        "silence after barge-in",
        "p99.9",
        "189",
    ):
        assert part in text


def test_the_rates_that_were_tried_are_listed() -> None:
    text = shown(capacity_table(bench_results.capacity()))
    assert "met" in text
    assert "900 ms > 300 ms" in text
