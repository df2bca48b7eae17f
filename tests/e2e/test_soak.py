"""A short soak: callers, bad clients and faults at once leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_stack import environment
from tests.support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_two_minutes_of_callers_bad_clients_and_faults_leave_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.soak", "--minutes", "2", "--callers", "4", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["ends"]["turns completed"] > 0
    assert result["faults"]
    assert result["visits of bad clients"]
    assert (tmp_path / "soak.png").stat().st_size > 0
