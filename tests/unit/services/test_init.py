"""Waiting threads of a service sleep, so that another service can have their core."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


def settings_of_libgomp(**environment: str) -> str:
    """What the OpenMP library of PyTorch says of its settings when a process of a service loads it."""
    found = importlib.util.find_spec("torch")
    assert found
    assert found.origin
    openmp = Path(found.origin).parent / "lib" / "libgomp.so.1"
    if not openmp.is_file():
        pytest.skip("this build of PyTorch has another OpenMP library")
    program = f"import services, ctypes; ctypes.CDLL({str(openmp)!r})"
    inherited = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | {"PYTHONPATH": str(ROOT), "OMP_DISPLAY_ENV": "verbose"} | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stderr


def test_a_thread_that_waits_soon_sleeps() -> None:
    assert "GOMP_SPINCOUNT = '1000'" in settings_of_libgomp()


def test_what_the_environment_says_remains() -> None:
    assert "GOMP_SPINCOUNT = '7'" in settings_of_libgomp(GOMP_SPINCOUNT="7")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in settings_of_libgomp(OMP_WAIT_POLICY="active")
