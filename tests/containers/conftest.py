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
from tests.support.snippets import snippet_that_begins
from tests.support.tools import locked, tool_folder

REVISION = "0" * 40
"""The revision that the labels of these images name."""


FETCH_S = 900
NEEDED_BYTES = 10e9
"""Room for the images of two builders, their stages and the wheels, with some to spare."""


def image_variables(base_image: str, options: str) -> dict[str, str]:
    """The variables with which `make images` builds without any index."""
    return {"PYTHON_IMAGE": base_image, "REVISION": REVISION, "IMAGE_OPTIONS": options}


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
    """The folder from which images are built: what make and the builder need of this repository, and all wheels."""
    context = engine.folder / "context"
    copy_context(context)
    (context / "train").mkdir()
    for name in (".dockerignore", "deploy/Dockerfile", "Makefile", "train/stages.mk"):
        shutil.copy(ROOT / name, context / name)
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
    """The engine with the four images, built by the command of docs/operations.md, without any index."""
    block = snippet_that_begins("docs/operations.md", "make images ENGINE=podman")
    variables = image_variables(base_image, "--layers --pull=never --network none")
    engine.command("bash", "-eu", "-c", block.code, directory=context, environment=variables)
    return engine


@pytest.fixture(scope="module")
def built_by_buildkit(engine: Engine, context: Path, base_image: str) -> Iterator[Docker]:
    """Docker with the four images, built without any index."""
    with docker(engine) as running:
        archive = engine.folder / "base.tar"
        engine.run("save", "--format", "docker-archive", "--output", archive, base_image)
        running.run("load", "--input", archive)
        archive.unlink()
        variables = {**running.environment, **image_variables(base_image, "--network none")}
        engine.command("make", "images", directory=context, environment=variables)
        yield running


@pytest.fixture(scope="session")
def stack(built: Engine) -> Iterator[Composed]:
    """The stack of deploy/compose.yaml from these images."""
    with composed(built, valkey_image(built)) as stack:
        yield stack
