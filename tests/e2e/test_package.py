"""The client's package, installed where nothing else is."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

import pytest

from tests.support.local_stack import LocalStack, environment
from tests.support.paths import ROOT
from tests.support.shell import run_shell
from tests.support.snippets import snippet_that_begins

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new virtual environment, in which the commands of the client's README were run."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    commands = snippet_that_begins("clients/python/README.md", "pip install").code
    variables = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PIP_QUIET": "1"}
    run_shell(commands, ROOT, variables, limit_s=500)
    return folder / "bin"


def run(*command: str | Path, folder: Path) -> str:
    variables = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_runs_and_talks_to_a_server(installed: Path, nano: LocalStack, tmp_path: Path) -> None:
    assert run(installed / "chroma-voice", "--version", folder=tmp_path).startswith("chroma-voice ")
    for name in ("up", "chat", "serve", "checkpoint", "voice", "key"):
        assert name in run(installed / "chroma-voice", "--help", folder=tmp_path)
    asked = ("talk", "--text", "What is two plus three?", "--gateway", nano.endpoints.gateway, "--quiet")
    assert run(installed / "chroma-voice", *asked, folder=tmp_path) == "Two and three make five.\n"
    assert (tmp_path / "reply.wav").stat().st_size > 10_000


def test_the_package_has_types_a_version_and_its_licence(installed: Path, tmp_path: Path) -> None:
    code = """
import importlib.metadata, importlib.resources, chroma_voice
own = importlib.metadata.distribution("chroma-voice-client")
assert own.version == chroma_voice.__version__
assert importlib.resources.files("chroma_voice").joinpath("py.typed").is_file()
assert any(str(file).endswith("licenses/LICENSE") for file in own.files), own.files
top = {file.parts[0] for file in own.files if ".." not in file.parts}
print(sorted(name for name in top if not name.endswith(".dist-info")))
"""
    assert run(installed / "python", "-c", code, folder=tmp_path) == "['chroma', 'chroma_voice']\n"
