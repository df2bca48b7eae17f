"""Blocks of documents, run by a shell in a folder that looks like a checkout of this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.local_stack import environment
from tests.support.paths import ROOT

_NEVER_OLD = 2**33
"""A time of change, in seconds since 1970, after that of every file."""
_WRITTEN = shutil.ignore_patterns("build", "node_modules", "talk", "__pycache__")


def commands(folder: Path) -> str:
    """Make the folder, with the command `chroma-voice`. Returns a PATH that begins there and goes on with the tools of
    the tests' virtual environment, such as kubectl."""
    folder.mkdir()
    command = folder / "chroma-voice"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m chroma_voice.cli "$@"\n')
    command.chmod(0o755)
    return f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def checkout(folder: Path, *copied: str) -> Path:
    """Make the folder with links to what this repository has at its top. The folders `copied`, such as `clients/go`,
    are copied without what commands write there."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    folder.mkdir()
    for name in copied:
        shutil.copytree(ROOT / name, folder / name, ignore=_WRITTEN)
    for name in sorted({line.partition("/")[0] for line in listed.stdout.splitlines()}):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return folder


def mark_installed(venv: Path, *names: str) -> None:
    """Make the files, such as `.installed`, by which make knows what a virtual environment has. None is too old."""
    for name in names:
        (venv / name).touch()
        os.utime(venv / name, (_NEVER_OLD, _NEVER_OLD))


def run_shell(code: str, folder: Path, variables: Mapping[str, str] | None = None, *, limit_s: float = 120.0) -> str:
    """Run a shell script, which stops at the first error. Returns its standard output. Its status must be 0."""
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", code],
        cwd=folder,
        env={**environment(), **(variables or {})},
        capture_output=True,
        text=True,
        timeout=limit_s,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    return done.stdout
