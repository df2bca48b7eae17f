"""One engine, the four images and the composed stack, for all tests of this folder. At the end nothing is left."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.build_context import copy_context
from tests.support.containers.base_images import python_image, valkey_image
from tests.support.containers.composed import Composed, composed
from tests.support.containers.engine import Engine, left_over
from tests.support.manifests import DEPLOY
from tests.support.paths import ROOT
from tests.support.tools import locked, tool_folder

REVISION = "0" * 40
"""The revision that the labels of these images name."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.containers)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """podman in a folder below build/, which is on a disk. Afterwards this machine must be as before."""
    folder = ROOT / "build" / "containers"
    folder.parent.mkdir(exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if folder.exists():  # a killed run has left it
            shutil.rmtree(folder)
        before = left_over()
        try:
            engine = Engine(folder)
            try:
                engine.skip_unless_it_runs()
                yield engine
            finally:
                engine.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        assert not folder.exists()
        assert left_over() == before


@pytest.fixture(scope="session")
def built(engine: Engine) -> Engine:
    """The engine with the four images, built by `make images` from a folder of wheels and without any index."""
    context = engine.folder / "context"
    copy_context(context)
    shutil.copy(ROOT / ".dockerignore", context)
    shutil.copy(DEPLOY / "Dockerfile", context / "deploy")
    with tool_folder("wheels") as wheels:
        wheels.mkdir(exist_ok=True)
        fetch = [sys.executable, DEPLOY / "supply" / "wheels.py", wheels, "cpu"]
        fetched = subprocess.run(fetch, capture_output=True, text=True)
        if fetched.returncode != 0:
            pytest.skip(f"the wheels of the images cannot be fetched: {fetched.stderr.strip()[-1000:]}")
        shutil.copytree(wheels, context / "deploy" / "wheels", dirs_exist_ok=True)
    make = ("make", "-f", ROOT / "Makefile", "-I", ROOT, "images", "ENGINE=podman")
    base = f"PYTHON_IMAGE={python_image(engine)}"
    options = "IMAGE_OPTIONS=--layers --pull=never --network none"
    engine.command(*make, base, f"REVISION={REVISION}", options, directory=context)
    return engine


@pytest.fixture(scope="session")
def stack(built: Engine) -> Iterator[Composed]:
    """The stack of deploy/compose.yaml from these images."""
    with composed(built, valkey_image(built)) as stack:
        yield stack
