from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from rich.console import Console

from chroma_voice.bench.capacity import Objective
from chroma_voice.bench.load.plan import Mix, Question
from chroma_voice.bench.run import Load, Measured
from chroma_voice.cli.load import bench_run
from chroma_voice.cli.load.bench_run import Bench, metrics_url
from chroma_voice.errors import ChromaError, FailedPrecondition, Unavailable
from tests.support import bench_results
from tests.support.scripted_target import ScriptedTarget, tone

Running = Callable[..., Measured]


def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: Running) -> tuple[Bench, io.StringIO]:
    """A load whose run is replaced by `running`, and what it prints."""
    monkeypatch.setattr(bench_run, "run", running)
    monkeypatch.setattr(bench_run, "render", lambda results: f"<h1>{results.target}</h1>")
    out = io.StringIO()
    questions = [Question("q.wav", tone(0.1))]
    load = Load(ScriptedTarget(), Mix().conversations([0.5]), questions, 60.0)
    return Bench(load, {"rate": 1.0}, 0.0, Console(file=out, width=140), tmp_path), out


def test_results_are_written_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, out = bench(tmp_path, monkeypatch, lambda *given: bench_results.measured())
    one.once()
    assert json.loads((tmp_path / "bench.json").read_text())["summary"]["turns"] == 40
    for name in ("bench.json", "bench.html"):
        assert str(tmp_path / name) in out.getvalue().replace("\n", "")
    assert json.loads((tmp_path / "plan.jsonl").read_text())["at_s"] == 0.5


def test_a_run_that_broke_off_is_an_error_after_its_results_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = bench(
        tmp_path, monkeypatch, lambda *given: bench_results.measured(broken="the target went away after 7 s")
    )
    with pytest.raises(Unavailable, match="the target went away after 7 s; the results until then are in"):
        one.once()
    assert json.loads((tmp_path / "bench.json").read_text())["broken"] == "the target went away after 7 s"


def test_ctrl_c_has_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, out = bench(tmp_path, monkeypatch, lambda *given: bench_results.measured(broken="interrupted after 7 s"))
    with pytest.raises(typer.Exit) as ended:
        one.once()
    assert ended.value.exit_code == 130
    assert "the results are partial" in out.getvalue()


def test_a_run_without_any_reply_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Measured(0.0, bench_results.turns()[-1:], elapsed_s=10.0)
    one, _ = bench(tmp_path, monkeypatch, lambda *given: nothing)
    with pytest.raises(ChromaError, match="no turn had a reply: <b>gone</b>") as error:
        one.once()
    assert error.value.status == "UNAVAILABLE"


def test_a_search_tries_rates_and_shows_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def quick_below_two_a_second(load: Load, *given: object) -> Measured:
        counts.append(len(load.plan))
        measured = bench_results.measured()
        measured.turns = measured.turns[1:10]
        for turn in measured.turns:
            turn.first_sound_s = 0.1 if len(load.plan) < 120 else 5.0
        return measured

    one, out = bench(tmp_path, monkeypatch, quick_below_two_a_second)
    one.search(Mix(), 0.5, Objective())
    found = json.loads((tmp_path / "bench.json").read_text())
    assert 1.0 <= found["capacity"]["rate"] <= 2.5
    assert len(counts) == len(found["capacity"]["trials"]) > 3
    assert found["summary"]["waits"]["first_sound"]["max"] == 0.1
    assert "capacity:" in out.getvalue()


def late(load: Load, *given: object) -> Measured:
    """A run whose worker was late."""
    measured = bench_results.measured()
    measured.turns = measured.turns[1:10]
    measured.health = [replace(sample, lagging=0.5) for sample in measured.health]
    return measured


def test_a_late_load_generator_ends_a_search_only_when_the_objective_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, out = bench(tmp_path, monkeypatch, late)
    one.search(Mix(), 0.01, Objective(first_sound_s=1.0))
    assert "12 rates were tried" in out.getvalue()
    one, out = bench(tmp_path, monkeypatch, late)
    with pytest.raises(FailedPrecondition, match="no rate that was tried met the objective"):
        one.search(Mix(), 0.5, Objective(first_sound_s=0.01))
    assert "the load generator was itself the bottleneck" in out.getvalue()
    found = json.loads((tmp_path / "bench.json").read_text())
    assert len(found["capacity"]["trials"]) == 1


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:9090", "http://127.0.0.1:9090/metrics"),
        ("https://host/", "https://host/metrics"),
        ("https://host/other", "https://host/other"),
    ],
)
def test_a_page_of_metrics_has_a_path(text: str, url: str) -> None:
    assert metrics_url(text) == url
