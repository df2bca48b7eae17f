"""A session keeps what it has measured whatever happens to it; the script runs it on a CPU with the tiny preset."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.gpu import session as gpu_session
from bench.gpu.measurements import Plan
from bench.gpu.session import RESULT, Session, print_summary, read_arguments, run_tests
from tests.support.set_clock import SetClock

REHEARSAL = "--preset tiny --device cpu --dtype float32 --widths 1 --context 20 --reply-frames 2 --conversations 1"


def kept(folder: Path) -> dict[str, Any]:
    return json.loads((folder / RESULT).read_text())


def test_each_result_is_in_the_file_at_once(tmp_path: Path) -> None:
    session = Session(tmp_path / "out", 60, SetClock())
    session.keep("first", 1)
    assert kept(tmp_path / "out") == {"first": 1}
    session.keep("second", [2.5])
    assert kept(tmp_path / "out") == {"first": 1, "second": [2.5]}


def test_a_part_that_fails_leaves_its_error_and_the_next_one_runs(tmp_path: Path) -> None:
    session = Session(tmp_path, 60, SetClock())
    with session.part("steps"):
        raise RuntimeError("CUDA error")
    with session.part("profile") as fits:
        assert fits
        session.keep("profile", 1)
    assert kept(tmp_path) == {"steps": {"error": "RuntimeError: CUDA error"}, "profile": 1}


def test_a_part_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    clock = SetClock()
    session = Session(tmp_path, 60, clock)
    clock.now_s += 50
    with session.part("int8", needs_s=20) as fits:
        assert not fits
    assert kept(tmp_path) == {"int8": {"left out": "10 s were left"}}


def test_a_session_without_formats_only_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_session, "copy_rate", lambda device: 2e9)
    monkeypatch.setattr(gpu_session, "run_tests", lambda tests, limit_s: {"passed": True, "output": "3 passed"})
    session = Session(tmp_path, 60, SetClock())
    gpu_session.run(session, Plan(device="cpu"), [], ["tests/gpu"])
    assert kept(tmp_path)["tests"] == {"passed": True, "output": "3 passed"}
    console = Console(width=120, record=True)
    print_summary(session.result, console)
    assert "copies at 2 GB/s" in console.export_text()


def test_the_summary_shows_every_part() -> None:
    costs = [{"width": 1, "ms": 1.25, "floor_ms": 0.5}]
    result = {
        "machine": {"device": "a GPU"},
        "as-stored: memory": {"allocated bytes": 5},
        "as-stored: profile of 1": {"launches": 299, "device ms": 1.2, "clock ms": 1.5},
        "as-stored: steps": {"thinker": costs, "speech frame": costs, "codec": costs},
        "as-stored: conversations": [{"conversations": 64, "underruns": 3}],
        "int8": {"left out": "9 s were left"},
    }
    console = Console(width=120, record=True)
    print_summary(result, console)
    shown = console.export_text()
    for part in ("299 launches, 1.20 ms on the device, 1.50 ms on the clock", "1.25 (0.50)", "64", "9 s were left"):
        assert part in shown


def test_the_measured_formats_and_tests_can_be_chosen() -> None:
    assert read_arguments([]).formats == ["as-stored", "int8", "int4"]
    assert "tests/gpu" in read_arguments([]).tests
    assert read_arguments(["--tests"]).tests == []


@pytest.mark.slow
def test_tests_that_take_too_long_are_ended() -> None:
    result = run_tests(["tests/unit/services/runtime/layers/test_fused.py"], 0.2)
    assert not result["passed"]
    assert result["output"].endswith("no end within 0 s")


@pytest.mark.slow
def test_the_script_rehearses_a_whole_session_on_a_cpu(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path), "WHEELS": str(tmp_path / "none")}
    environment["OMP_NUM_THREADS"] = "1"  # the steps are tiny: a second thread makes them slower
    tests = ["--formats", "as-stored", "--tests", "tests/unit/services/runtime/layers/test_fused.py"]
    run = subprocess.run(
        ["bench/gpu/session.sh", *REHEARSAL.split(), *tests],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    result = kept(tmp_path)
    assert result["tests"]["passed"], result["tests"]["output"]
    assert not [value for value in result.values() if isinstance(value, dict) and "error" in value]
    assert [cost["width"] for cost in result["as-stored: steps"]["speech frame"]] == [1]
    assert result["as-stored: first sound ms, alone"] > 0
    assert [each["refused"] for each in result["as-stored: conversations"]] == [0]
    assert "launches" in run.stdout


@pytest.mark.slow
def test_every_package_that_a_session_imports_is_carried_over() -> None:
    asked = "import sys, bench.gpu.session, tests.gpu.test_graphs, tests.gpu.test_codec_cuda, tests.support.kernels; "
    asked += "print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    owners = packages_distributions()
    imported = {owner for name in run.stdout.split() for owner in owners.get(name, [])}
    lines = Path("bench/gpu/requirements.txt").read_text().splitlines()
    carried = {line for line in lines if not line.startswith("#")}
    of_torch = {"torch", "filelock", "jinja2", "markupsafe", "setuptools", "typing-extensions", "triton"}
    optional = {"pillow", "cffi", "soundfile", "soxr"}  # transformers imports them where they are installed
    missing = {re.sub(r"[-_.]+", "-", owner).lower() for owner in imported} - carried - of_torch - optional
    assert not {name for name in missing if name not in ("chroma-voice",)}
