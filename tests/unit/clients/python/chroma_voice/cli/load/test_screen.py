from __future__ import annotations

import io

from rich.console import Console

from chroma_voice.bench.run import Measured
from chroma_voice.cli.load.screen import RunScreen, course
from tests.support import bench_results


def text_of(measured: Measured) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(RunScreen(console, "host:1", 60.0).picture(measured))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_shows_the_figures_so_far() -> None:
    shown = text_of(bench_results.measured())
    for part in (
        "host:1, 40 of 60 s",
        "169 ms",
        "4 turns with underruns",
        "1 with UNAVAILABLE",
        "1 worker,",
        "20% of a core",
    ):
        assert part in shown


def test_it_shows_that_workers_start() -> None:
    assert "workers start" in text_of(Measured(0.0))


def test_the_course_is_as_high_as_the_waits() -> None:
    line = course(bench_results.measured())
    assert line.endswith("█ up to 189 ms")
    assert course(Measured(0.0)) == ""


def test_without_a_terminal_nothing_is_shown() -> None:
    out = io.StringIO()
    with RunScreen(Console(file=out), "host:1", None) as screen:
        screen.show(bench_results.measured())
    assert out.getvalue() == ""


def test_a_terminal_is_left_clean() -> None:
    out = io.StringIO()
    with RunScreen(Console(file=out, force_terminal=True, width=100), "host:1", None) as screen:
        screen.show(bench_results.measured())
    assert "conversations open" in out.getvalue()
