from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chroma_voice.local.state import StateFolder
from tests.support.local_stack import environment
from tests.support.paths import ROOT


def demo(tmp_path: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "demo", f"VENV={sys.prefix}", f"STATE={tmp_path / 'state'}", f"OUT={tmp_path / 'out'}"]
    return subprocess.run(
        [*command, *variables], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=280
    )


@pytest.mark.slow
def test_demo_answers_the_taco_question_and_leaves_nothing_running(tmp_path: Path) -> None:
    for _ in range(2):  # the second time the voices are there already
        done = demo(tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        asked = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ chroma-voice")]
        assert asked == ["up", "voice", "talk", "down"]
        assert "random weights" not in done.stdout
        for name in ("reply.wav", "reply.txt", "reply.png"):
            assert str(tmp_path / "out" / name) in done.stdout
            assert (tmp_path / "out" / name).stat().st_size > 0
        assert "taco" in (tmp_path / "out" / "reply.txt").read_text().lower()
        assert StateFolder(tmp_path / "state").owner() is None


@pytest.mark.slow
def test_demo_of_random_weights_says_so(tmp_path: Path) -> None:
    done = demo(tmp_path, "MODEL=tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "random weights" in done.stdout


@pytest.mark.slow
def test_failing_demo_stops_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the demo wants a folder")
    done = demo(tmp_path, "MODEL=tiny")
    assert done.returncode != 0
    assert "cannot be written: File exists" in done.stderr
    assert "stopped" in done.stdout
    assert StateFolder(tmp_path / "state").owner() is None
