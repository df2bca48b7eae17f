"""One engine, the four images and the composed stack, for all tests of this folder. At the end nothing is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.build_context import copy_context
from tests.support.containers.base_images import python_image, valkey_image
from tests.support.containers.composed import Composed, composed
from tests.support.containers.docker import Docker, docker
from tests.support.containers.engine import Engine, left_over
from tests.support.manifests import DEPLOY
from tests.support.paths import ROOT
from tests.support.tools import locked, tool_folder

REVISION = "0" * 40
"""The revision that the labels of these images name."""


FETCH_S = 900
NEEDED_BYTES = 10e9
"""Room for the images of two builders, their stages and the wheels, with some to spare."""


def make_images(engine: str, base_image: str, options: str) -> list[str | Path]:
    """The command that builds the images in a copy of the build context."""
    command: list[str | Path] = ["make", "-f", ROOT / "Makefile", "-I", ROOT, "images", f"ENGINE={engine}"]
    return [*command, f"PYTHON_IMAGE={base_image}", f"REVISION={REVISION}", f"IMAGE_OPTIONS={options}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.containers)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """podman in a folder below build/, which is on a disk. Afterwards this machine must be as before."""
    if os.geteuid() != 0:
        pytest.skip("containers are run as root: this is another user")
    folder = ROOT / "build" / "containers"
    folder.parent.mkdir(exist_ok=True)
    free_bytes = shutil.disk_usage(folder.parent).free
    if free_bytes < NEEDED_BYTES:
        pytest.skip(f"images need {NEEDED_BYTES / 1e9:.0f} GB in {folder.parent}: {free_bytes / 1e9:.0f} GB are free")
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
        assert not left_over() - before


@pytest.fixture(scope="session")
def context(engine: Engine) -> Path:
    """The folder from which images are built: what the builder gets of this repository, and all wheels."""
    context = engine.folder / "context"
    copy_context(context)
    shutil.copy(ROOT / ".dockerignore", context)
    shutil.copy(DEPLOY / "Dockerfile", context / "deploy")
    with tool_folder("wheels") as wheels:
        wheels.mkdir(exist_ok=True)
        # timeout(1) ends pip too.
        fetch = ["timeout", str(FETCH_S), sys.executable, DEPLOY / "supply" / "wheels.py", wheels, "cpu"]
        fetched = subprocess.run(fetch, capture_output=True, text=True)
        if fetched.returncode != 0:
            reason = fetched.stderr.strip()[-1000:] or f"status {fetched.returncode} after at most {FETCH_S} s"
            pytest.skip(f"the wheels of the images cannot be fetched: {reason}")
        shutil.copytree(wheels, context / "deploy" / "wheels", dirs_exist_ok=True)
    return context


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    """The name of the base image, which is in the engine's storage."""
    return python_image(engine)


@pytest.fixture(scope="session")
def built(engine: Engine, context: Path, base_image: str) -> Engine:
    """The engine with the four images, built without any index."""
    command = make_images("podman", base_image, "--layers --pull=never --network none")
    engine.command(*command, directory=context)
    return engine


@pytest.fixture(scope="module")
def built_by_buildkit(engine: Engine, context: Path, base_image: str) -> Iterator[Docker]:
    """Docker with the four images, built without any index."""
    with docker(engine) as running:
        archive = engine.folder / "base.tar"
        engine.run("save", "--format", "docker-archive", "--output", archive, base_image)
        running.run("load", "--input", archive)
        archive.unlink()
        command = make_images("docker", base_image, "--network none")
        engine.command(*command, directory=context, environment=running.environment)
        yield running


@pytest.fixture(scope="session")
def stack(built: Engine) -> Iterator[Composed]:
    """The stack of deploy/compose.yaml from these images."""
    with composed(built, valkey_image(built)) as stack:
        yield stack
