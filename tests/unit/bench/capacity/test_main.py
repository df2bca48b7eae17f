"""The command line: bad input is one line and the status 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.capacity import __main__ as command
from bench.capacity.assumptions import DEFAULT_FILE
from bench.capacity.cells import Cell
from bench.capacity.validation import Comparison, Fit

CELL = Cell("H200", "as-stored", 256, 10.0, 400, "slots of codec", 0.1, 0.2, 0.5, {"reasoner": 0.5})


def lines_of_error(capsys: pytest.CaptureFixture[str]) -> list[str]:
    found = capsys.readouterr()
    assert not found.out
    return found.err.splitlines()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("price_per_hour = 1.0", "price_per_hour = -1.0"), "gpus.H200.price_per_hour: input should be greater"),
        (("[zones]", "[zone]"), "zones: it is missing"),
    ],
)
def test_bad_assumptions_are_named(
    change: tuple[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(DEFAULT_FILE.read_text(encoding="utf-8").replace(*change, 1), encoding="utf-8")
    assert command.main(["plan", "--assumptions", str(path)]) == 1
    assert lines_of_error(capsys)[0].startswith(f"{path}: {message}")


def test_an_unknown_gpu_and_no_conversations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["plan", "--gpu", "Z9"]) == 1
    assert lines_of_error(capsys)[0].startswith("Z9 is not among the GPUs of")
    assert command.main(["plan", "--gpu", "H200", "--live", "0"]) == 1
    assert lines_of_error(capsys) == ["--live: expected 1 conversation or more, got 0"]


def test_a_plan_has_a_table_for_each_number_of_conversations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_cells", lambda *_: iter([CELL]))
    assert command.main(["plan", "--live", "1000", "2000"]) == 0
    text = capsys.readouterr().out
    assert "1,000 live conversations" in text
    assert "2,000 live conversations" in text
    assert "What autoscaling must foresee" in text


@pytest.mark.parametrize(("simulated", "status"), [(110.0, 0), (130.0, 1)])
def test_a_validation_that_misses_its_aim_ends_with_status_1(
    simulated: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.validation, "read_fit", lambda _: Fit(0.001, 1.5, 0.2))
    monkeypatch.setattr(
        command.validation, "compare", lambda name, *_: [Comparison(name, "p50", 100.0, 90.0, 110.0, simulated)]
    )
    assert command.main(["validate"]) == status
    assert f"{3 * (1 - status)} of 3 figures are within 15%" in capsys.readouterr().out


def test_a_folder_without_measurements_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["validate", "--measured", str(tmp_path)]) == 1
    assert "fit.json" in lines_of_error(capsys)[0]
