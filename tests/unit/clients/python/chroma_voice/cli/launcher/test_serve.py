from __future__ import annotations

import os
import sys

import pytest
from typer.testing import CliRunner

from chroma_voice.cli import app
from chroma_voice.cli.launcher import serve
from chroma_voice.errors import FailedPrecondition


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that the process would have become."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, command: commands.append(command))
    return commands


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("reasoner", "services.reasoner"),
        ("speech-gen", "services.speech_gen"),
        ("codec", "services.codec"),
        ("gateway", "gateway"),
    ],
)
def test_serve_becomes_the_server_process(replaced: list[list[str]], name: str, module: str) -> None:
    assert CliRunner().invoke(app, ["serve", name]).exit_code == 0
    assert replaced == [[sys.executable, "-m", module]]


def test_checkpoint_hands_its_arguments_on(replaced: list[list[str]]) -> None:
    assert CliRunner().invoke(app, ["checkpoint", "new", "tiny", "folder", "--seed", "3"]).exit_code == 0
    assert CliRunner().invoke(app, ["checkpoint"]).exit_code == 0
    first, second = (command[3:] for command in replaced)
    assert first == ["new", "tiny", "folder", "--seed", "3"]
    assert second == ["--help"]


def test_an_unknown_server_is_a_wrong_usage(replaced: list[list[str]]) -> None:
    assert CliRunner().invoke(app, ["serve", "oven"]).exit_code == 2
    assert not replaced


def test_a_server_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition, match=r"pip install '\.\[local\]'"):
        serve.serve(serve.ServiceName.CODEC)
