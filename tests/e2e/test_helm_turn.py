"""The script that `helm test` runs, against all processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chroma_voice.keys_file import KeysFile
from tests.support.helm import CHART, template
from tests.support.local_stack import PATIENCE_S, LocalStack, environment
from tests.support.manifests import of_kind

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """chroma-nano with an API key, whose text is the variable CHROMA_API_KEY of the stack's settings."""
    folder = tmp_path_factory.mktemp("keyed")
    key = KeysFile(folder / "keys.json").add("test", "default", ["talk", "voices"], None)
    settings = {"CHROMA_API_KEYS_FILE": str(folder / "keys.json"), "CHROMA_API_KEY": key}
    stack = LocalStack(folder / "state", "", **settings)
    stack.start()
    yield stack
    stack.stop()


def hold_turn(url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the test's pod, with the files where they are here and another address."""
    (pod,) = of_kind(template(), "Pod")
    python, script, address, recording, timeout_s = pod["spec"]["containers"][0]["command"]
    assert (Path(python).name, address) == ("python", "http://gateway:8080")
    files = CHART / "files"
    command = [sys.executable, files / Path(script).name, url, files / Path(recording).name, timeout_s]
    own = environment() | variables
    return subprocess.run(command, capture_output=True, text=True, env=own, timeout=PATIENCE_S, check=False)


def test_with_a_key_the_turn_has_sound(keyed: LocalStack) -> None:
    done = hold_turn(keyed.endpoints.page.rstrip("/"), CHROMA_API_KEY=keyed.settings["CHROMA_API_KEY"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert " s of sound after " in done.stdout


def test_without_a_key_it_says_which_secret_is_missing(keyed: LocalStack) -> None:
    done = hold_turn(keyed.endpoints.page.rstrip("/"))
    assert done.returncode == 1
    assert "answers with status 401" in done.stdout
    assert "the Secret that test.keySecret names" in done.stdout
    assert not done.stderr


def test_without_a_gateway_it_says_so() -> None:
    done = hold_turn("http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stdout.startswith("no answer from http://127.0.0.1:1: ")
    assert not done.stderr
