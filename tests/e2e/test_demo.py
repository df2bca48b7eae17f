from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chroma_voice.local.state import StateFolder
from tests.e2e.local_stack import environment

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_demo_runs_its_commands_says_that_the_weights_are_random_and_leaves_nothing_running(tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "out"
    command = ["make", "demo", f"VENV={sys.prefix}", f"STATE={state}", f"OUT={out}"]
    for _ in range(2):  # the second time the voice is there already
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
        asked = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ chroma-voice")]
        assert asked == ["up", "voice", "talk", "down"]
        assert "random weights" in done.stdout
        for name in ("reply.wav", "reply.txt", "reply.png"):
            assert str(out / name) in done.stdout
            assert (out / name).stat().st_size > 0
        assert StateFolder(state).owner() is None


@pytest.mark.slow
def test_failing_demo_stops_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the demo wants a folder")
    command = ["make", "demo", f"VENV={sys.prefix}", f"STATE={tmp_path / 'state'}", f"OUT={tmp_path / 'out'}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode != 0
    assert "error: [Errno" in done.stderr
    assert "stopped" in done.stdout
    assert StateFolder(tmp_path / "state").owner() is None
