from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chroma_voice.local.state import StateFolder
from tests.support.local_stack import environment
from tests.support.model_hub import serving
from tests.support.paths import ROOT
from tests.support.shell import mark_installed, run_shell
from tests.support.snippets import code_in_sentences, snippet_that_begins, snippets_of


def installed(tmp_path: Path) -> dict[str, str]:
    """The variables with which make takes the virtual environment of the tests as it is: it installs nothing, because
    the package index of the Makefile may not be reached from here. State and results go into `tmp_path`."""
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "bin").symlink_to(Path(sys.prefix) / "bin")
    mark_installed(venv, ".torch", ".served", ".installed")
    return {"VENV": str(venv), "STATE": str(tmp_path / "state"), "OUT": str(tmp_path / "out")}


def demo(tmp_path: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    own = {**environment(), **installed(tmp_path)}
    return subprocess.run(["make", "demo", *variables], cwd=ROOT, env=own, capture_output=True, text=True, timeout=280)


def succeeding(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def demo_of_a_clone(tmp_path: Path, folders: dict[str, str]) -> str:
    """Run the line of README.md that clones, and its first block in the clone. Returns what it prints."""
    (clone,) = (span for span in code_in_sentences("README.md") if span.startswith("git clone "))
    run_shell(f"{clone}\n[ $PWD = {tmp_path}/chroma-voice ]", tmp_path, {"REPOSITORY": str(ROOT)})
    assert snippets_of("README.md")[0].code == "make demo\n"
    block = snippet_that_begins("README.md", "make demo\n")
    return run_shell(block.code, tmp_path / "chroma-voice", folders, limit_s=280)


def demo_from_the_hub(tmp_path: Path, folders: dict[str, str]) -> str:
    """Run the block of README.md that fetches the published weights, in the clone. The hub is a stand-in, which has
    chroma-nano under their name. Returns what it prints."""
    contents = {path.name: path.read_bytes() for path in (ROOT / "models" / "chroma-nano").iterdir()}
    with serving("FlashLabs/Chroma-4B", "0123456789" * 4, contents) as hub:
        hub_settings = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
        block = snippet_that_begins("README.md", "make demo MODEL=FlashLabs/Chroma-4B")
        printed = run_shell(block.code, tmp_path / "chroma-voice", {**folders, **hub_settings}, limit_s=280)
    assert list((tmp_path / "hub").rglob("config.json"))
    return printed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo_answers_the_taco_question_and_leaves_nothing_running(tmp_path: Path) -> None:
    folders = installed(tmp_path)
    for run_demo in (demo_of_a_clone, demo_from_the_hub):  # then the voices are there already
        printed = run_demo(tmp_path, folders)
        asked = [line.split()[2] for line in printed.splitlines() if line.startswith("$ chroma-voice")]
        assert asked == ["up", "voice", "talk", "down"]
        assert "random weights" not in printed
        for name in ("reply.wav", "reply.txt", "reply.png"):
            assert str(tmp_path / "out" / name) in printed
            assert (tmp_path / "out" / name).stat().st_size > 0
        assert "taco" in (tmp_path / "out" / "reply.txt").read_text().lower()
        assert StateFolder(tmp_path / "state").owner() is None


@pytest.mark.slow
def test_demo_of_random_weights_says_so(tmp_path: Path) -> None:
    assert "random weights" in succeeding(demo(tmp_path, "MODEL=tiny"))


@pytest.mark.slow
def test_failing_demo_stops_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the demo wants a folder")
    done = demo(tmp_path, "MODEL=tiny")
    assert done.returncode != 0
    assert "cannot be written: File exists" in done.stderr
    assert "stopped" in done.stdout
    assert StateFolder(tmp_path / "state").owner() is None
