from __future__ import annotations

import stat
from pathlib import Path

import pytest

from train.corpus.tts.flite import Flite, find_flite

_A_FLITE = """#!/usr/bin/env python3
import sys, wave
stretch = float(sys.argv[sys.argv.index("--setf") + 1].removeprefix("duration_stretch="))
with wave.open(sys.argv[-1], "wb") as out:
    out.setnchannels(1), out.setsampwidth(2), out.setframerate(16000)
    out.writeframes(bytes(2 * round(16000 * stretch)))
"""


@pytest.fixture
def flite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flite:
    """A program called flite on PATH that writes a second of silence, times its stretch."""
    program = tmp_path / "flite"
    program.write_text(_A_FLITE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = find_flite(tmp_path / "debian")
    assert found is not None
    return found
