from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from chroma_voice.cli import app
from chroma_voice.cli.load import bench
from chroma_voice.errors import FailedPrecondition, InvalidArgument
from tests.support.gateway_commands import in_background
from tests.support.local_stack import run as run_command
from tests.support.stalling_servers import StallingGateway, Stalls

LOAD = ("--duration", "3", "--rate", "1.5", "--max-turns", "2", "--think", "0.2", "--barge-in", "0")


def test_the_help_names_every_option() -> None:
    text = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for option in ("--find-capacity", "--recorded", "--ramp-to", "--hands-free", "--url", "--metrics", "--workers"):
        assert option in text


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    result = CliRunner().invoke(app, ["bench"])
    assert isinstance(result.exception, FailedPrecondition)
    assert "the extra `bench` is not installed (no jinja2)" in result.exception.message


def test_contradicting_options_are_told(tmp_path: Path) -> None:
    (tmp_path / "plan.jsonl").write_text('{"at_s": 1}')
    result = CliRunner().invoke(app, ["bench", "--recorded", str(tmp_path / "plan.jsonl"), "--find-capacity"])
    assert isinstance(result.exception, InvalidArgument)


@pytest.mark.slow
def test_a_load_writes_its_table_json_and_report_and_can_be_repeated(tmp_path: Path) -> None:
    with in_background(StallingGateway(Stalls(waits_s=(0.1, 0.0), piece_s=0.3))) as address:
        output = run_command("bench", "--gateway", address, *LOAD, "--out", tmp_path / "out")
        (folder,) = (tmp_path / "out").iterdir()
        found = json.loads((folder / "bench.json").read_text())
        assert "first sound heard" in output
        assert str(folder / "bench.html") in output
        assert found["summary"]["completed"] == found["summary"]["turns"] > 0
        assert (folder / "bench.html").read_text().startswith("<!doctype html>")
        assert len((folder / "turns.jsonl").read_text().splitlines()) == len(found["turns"])
        run_command("bench", "--gateway", address, "--recorded", folder / "plan.jsonl", "--out", tmp_path / "again")
    (again,) = (tmp_path / "again").iterdir()
    assert (again / "plan.jsonl").read_text() == (folder / "plan.jsonl").read_text()


@pytest.mark.slow
def test_wrong_targets_end_with_a_line_and_a_status(tmp_path: Path) -> None:
    output = run_command("bench", "--gateway", "127.0.0.1:1", "--out", tmp_path, expect=1)
    assert output.startswith("error (UNAVAILABLE): no gateway answers at 127.0.0.1:1")
    assert "Traceback" not in output
    assert len(output.splitlines()) == 1
