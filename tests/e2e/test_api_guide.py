"""The snippets of docs/api.md and docs/migration.md run in their order."""

from __future__ import annotations

import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.support.documented_stack import DocumentedStack
from tests.support.local_stack import SAMPLES, environment
from tests.support.snippets import snippet_that_begins, snippets_of

RUNNERS = {"sh": ["bash", "-eu", "-c"], "python": [sys.executable, "-c"]}

pytestmark = pytest.mark.slow


def run_snippets(guide: str, documented: DocumentedStack, folder: Path) -> list[str]:
    """Run each snippet of the guide in `folder`, which gets the recordings at the same paths as the repository.
    Returns the output of each snippet.
    """
    exports = snippet_that_begins("docs/api.md", "export URL").code
    exported = documented.run(f"{exports}\nenv").splitlines()
    addresses = dict(line.split("=", 1) for line in exported if line.startswith(("URL=", "GATEWAY=")))
    assert set(addresses) == {"URL", "GATEWAY"}
    shutil.copytree(SAMPLES, folder / "samples")
    printed = []
    for snippet in snippets_of(guide):
        if snippet.language not in RUNNERS:
            continue
        done = subprocess.run(
            [*documented.network, *RUNNERS[snippet.language], snippet.code],
            cwd=folder,
            env=environment() | addresses,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{snippet.code}\n{done.stdout}{done.stderr}"
        printed.append(done.stdout)
    return printed


def sound_s(path: Path) -> float:
    with wave.open(str(path)) as sound:
        return len(sound.readframes(48_000 * 60)) / 48_000  # a streamed file does not know its length


def test_every_snippet_of_the_guide_runs(documented: DocumentedStack, tmp_path: Path) -> None:
    printed = run_snippets("docs/api.md", documented, tmp_path)
    assert '"id":"ann"' in printed[0]
    assert ", completed" in printed[1] or ", incomplete" in printed[1]
    assert '"value":"ek_' in printed[2]
    for name in ("chat.wav", "speech.wav", "reply.wav"):
        assert sound_s(tmp_path / name) > 0, name
    assert "taco" in printed[4]
    assert "first sound" in printed[6]
    assert "Hello, I am Chroma, your guide to the museum." in printed[6]
    assert "completed, " in printed[7]
    assert '"deleted":true' in printed[-1]


def test_requests_of_the_existing_server_are_answered(documented: DocumentedStack, tmp_path: Path) -> None:
    (answer,) = run_snippets("docs/migration.md", documented, tmp_path)
    assert "answer.wav" in answer
    assert sound_s(tmp_path / "answer.wav") > 0
