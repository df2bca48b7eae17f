"""Waiting threads of a service sleep, so that another service can have their core, and gRPC has fewer threads."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services import GRPC_EXPERIMENTS
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


@pytest.mark.parametrize("package", ["gateway", "services.reasoner", "services.speech_gen", "services.codec"])
def test_a_processes_package_sets_how_grpc_waits_before_grpc_is_imported(package: str) -> None:
    assert setting_of_grpc(package) == f"{GRPC_EXPERIMENTS} False"


def test_what_the_environment_says_of_grpc_is_left() -> None:
    assert setting_of_grpc("gateway", GRPC_EXPERIMENTS="call_v3") == "call_v3 False"


def setting_of_grpc(package: str, **environment: str) -> str:
    """What gRPC will read after the import of a package, and whether it was imported with it."""
    program = f"import {package}, os, sys; print(os.environ['GRPC_EXPERIMENTS'], 'grpc' in sys.modules)"
    inherited = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    return shown.stdout.strip()
