"""Blocks of documents, run by a shell in a folder that looks like a checkout of this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.local_stack import environment
from tests.support.paths import ROOT
from tests.support.snippets import Snippet

_NEVER_OLD = 2**33
"""A time of change, in seconds since 1970, after that of every file."""
_WRITTEN = shutil.ignore_patterns("build", "node_modules", "talk", "__pycache__")


def commands(folder: Path) -> str:
    """Make the folder, with the command `chroma-voice`. Returns a PATH that begins there and goes on with the tools of
    the tests' virtual environment, such as kubectl."""
    folder.mkdir()
    _write_command(folder)
    return f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def _write_command(folder: Path) -> None:
    command = folder / "chroma-voice"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m chroma_voice.cli "$@"\n')
    command.chmod(0o755)


def virtual_environment(folder: Path) -> None:
    """Make a virtual environment that has the packages of this one, its command `chroma-voice`, and room for more."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "those_of_the_tests.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    )
    _write_command(folder / "bin")


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


def run_shell(
    code: str,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    *,
    limit_s: float = 120.0,
    before: Sequence[str] = (),
) -> str:
    """Run a shell script, which stops at the first error. Returns its standard output. Its status must be 0.

    `before` are words before the command, such as those of `private_network`.
    """
    done = subprocess.run(
        [*before, "bash", "-eu", "-o", "pipefail", "-c", code],
        cwd=folder,
        env={**environment(), **(variables or {})},
        capture_output=True,
        text=True,
        timeout=limit_s,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    return done.stdout


class Session:
    """Blocks of a page, run one after the other as by somebody who copies them. Each begins in the folder, with the
    variables that those before it have exported.

    Args:
        before: words before every command, such as those of `private_network`.
    """

    def __init__(self, folder: Path, *, before: Sequence[str] = ()) -> None:
        self._folder = folder
        self._before = before
        self._variables = environment()

    def run(self, snippet: Snippet, *, limit_s: float = 300.0) -> str:
        """Run a block of `sh` or of `python`. Returns its standard output. Its status must be 0."""
        with tempfile.TemporaryDirectory() as written:
            block, exported = Path(written, "block"), Path(written, "exported")
            block.write_text(snippet.code)
            run = {"sh": '. "$0"; env -0 >"$1"', "python": 'python "$0"; env -0 >"$1"'}[snippet.language]
            done = subprocess.run(
                [*self._before, "bash", "-eu", "-c", run, block, exported],
                cwd=self._folder,
                env=self._variables,
                capture_output=True,
                text=True,
                timeout=limit_s,
            )
            assert done.returncode == 0, f"{snippet}\n{done.stdout}{done.stderr}"
            self._variables = dict(line.split("=", 1) for line in exported.read_text().split("\0") if line)
        return done.stdout
