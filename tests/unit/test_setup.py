"""Where `make setup` takes torch from. A program in place of Python writes down what it is asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
PIP = """#!/bin/sh
echo "$@" >> "{asked}"
case "$*" in *" --index-url {dead} "*) exit 1;; esac
"""


def installed_torch(tmp_path: Path, *variables: str, dead: str = "none") -> tuple[int, list[str]]:
    """Let make install torch, where the index `dead` does not answer. Returns make's status and, for each request to
    pip, the index: "" for the default."""
    python, asked = tmp_path / "bin" / "python", tmp_path / "asked"
    python.parent.mkdir()
    python.write_text(PIP.format(asked=asked, dead=dead))
    python.chmod(0o755)
    command = ["make", f"{tmp_path}/.torch", f"VENV={tmp_path}", *variables]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    requests = [line.split() for line in asked.read_text().splitlines()]
    assert all(words[-1] == "torch==2.13.0" for words in requests)
    assert all(("-c" in words) != ("--no-deps" in words) for words in requests)
    return done.returncode, [
        words[words.index("--index-url") + 1] if "--index-url" in words else "" for words in requests
    ]


def test_a_machine_without_a_gpu_takes_a_cpu_build_and_what_that_needs_from_pypi(tmp_path: Path) -> None:
    assert installed_torch(tmp_path, "NVIDIA=") == (0, [CPU_BUILDS, ""])


def test_a_machine_with_a_gpu_takes_pypis_build(tmp_path: Path) -> None:
    assert installed_torch(tmp_path, "NVIDIA=/dev/nvidiactl") == (0, [""])


def test_pypi_serves_where_the_index_of_cpu_builds_does_not_answer(tmp_path: Path) -> None:
    assert installed_torch(tmp_path, "NVIDIA=", dead=CPU_BUILDS) == (0, [CPU_BUILDS, ""])


@pytest.mark.parametrize("nvidia", ["", "/dev/nvidiactl"])
def test_an_index_that_was_asked_for_is_taken_or_fails(tmp_path: Path, nvidia: str) -> None:
    asked = ("TORCH_INDEX=https://example.com/cu130", f"NVIDIA={nvidia}")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert installed_torch(tmp_path / "a", *asked) == (0, ["https://example.com/cu130", ""])
    status, indexes = installed_torch(tmp_path / "b", *asked, dead="https://example.com/cu130")
    assert (status, indexes) == (2, ["https://example.com/cu130"])


def test_an_empty_index_is_pypi(tmp_path: Path) -> None:
    assert installed_torch(tmp_path, "NVIDIA=", "TORCH_INDEX=") == (0, [""])
