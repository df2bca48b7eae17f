from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chroma_voice.local.state import StateFolder
from tests.support.local_stack import environment
from tests.support.paths import ROOT
from tests.support.shell import run_shell
from tests.support.snippets import snippet_that_begins

NEVER_OLD = 2**33
"""A time of change, in seconds since 1970, after that of every file."""


def demo(tmp_path: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "demo", f"VENV={sys.prefix}", f"STATE={tmp_path / 'state'}", f"OUT={tmp_path / 'out'}"]
    return subprocess.run(
        [*command, *variables], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=280
    )


def succeeding(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def demo_of_a_clone(tmp_path: Path) -> str:
    """Run the first block of README.md with this repository's address. Its virtual environment is there already: the
    package index that it names may not be reached from here. Returns what it prints."""
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "bin").symlink_to(Path(sys.prefix) / "bin")
    for name in (".torch", ".served", ".installed"):
        (venv / name).touch()
        os.utime(venv / name, (NEVER_OLD, NEVER_OLD))
    block = snippet_that_begins("README.md", "git clone <address of this repository>")
    code = block.code.replace("<address of this repository>", str(ROOT))
    folders = {"VENV": str(venv), "STATE": str(tmp_path / "state"), "OUT": str(tmp_path / "out")}
    return run_shell(code, tmp_path, folders, limit_s=280)


@pytest.mark.slow
def test_demo_answers_the_taco_question_and_leaves_nothing_running(tmp_path: Path) -> None:
    for run_demo in (demo_of_a_clone, lambda folder: succeeding(demo(folder))):  # then the voices are there already
        printed = run_demo(tmp_path)
        asked = [line.split()[2] for line in printed.splitlines() if line.startswith("$ chroma-voice")]
        assert asked == ["up", "voice", "talk", "down"]
        assert "random weights" not in printed
        for name in ("reply.wav", "reply.txt", "reply.png"):
            assert str(tmp_path / "out" / name) in printed
            assert (tmp_path / "out" / name).stat().st_size > 0
        assert "taco" in (tmp_path / "out" / "reply.txt").read_text().lower()
        assert StateFolder(tmp_path / "state").owner() is None


@pytest.mark.slow
def test_demo_of_random_weights_says_so(tmp_path: Path) -> None:
    assert "random weights" in succeeding(demo(tmp_path, "MODEL=tiny"))


@pytest.mark.slow
def test_failing_demo_stops_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the demo wants a folder")
    done = demo(tmp_path, "MODEL=tiny")
    assert done.returncode != 0
    assert "cannot be written: File exists" in done.stderr
    assert "stopped" in done.stdout
    assert StateFolder(tmp_path / "state").owner() is None
