"""What the images are built from is pinned: base images by digest, packages by hash, weights by commit."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.manifests import DEPLOY, ROOT

LOCKS = DEPLOY / "requirements"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
EXTRAS = {"gateway.txt": ["gateway", "tracing", "webrtc"], "model.txt": ["reasoner", "speech-gen", "codec", "tracing"]}
IMAGE = {
    "python_version": "3.11",
    "python_full_version": "3.11.16",
    "sys_platform": "linux",
    "platform_system": "Linux",
}


def pins(lock: str) -> dict[str, str]:
    """The locked packages and their versions. Fails when one has no hash."""
    found = {}
    for block in re.split(r"\n(?=\S)", (LOCKS / lock).read_text().strip()):
        head, *rest = block.split("\\\n")
        name, _, version = head.strip().partition("==")
        assert version, f"{lock}: {head}"
        hashes = [line for line in rest if re.fullmatch(r"\s+--hash=sha256:[0-9a-f]{64}\s*", line)]
        assert rest == hashes != [], f"{lock}: {name}"
        found[canonical(name)] = version
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(extra: str) -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"][extra]]:
        requirement = Requirement(text)
        if canonical(requirement.name) == "chroma-voice":
            for inner in requirement.extras:
                yield from needed(inner)
        else:
            yield requirement


@pytest.mark.parametrize("lock", sorted(path.name for path in LOCKS.glob("*.txt")))
def test_every_package_has_a_hash_and_the_version_of_the_constraints(lock: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}
    for name, version in pins(lock).items():
        assert constraints.get(name, version) == version.removesuffix("+cpu"), name


@pytest.mark.parametrize("lock", EXTRAS)
def test_the_locks_hold_everything_that_the_packages_need(lock: str) -> None:
    locked = pins(lock) | (pins("torch-cpu.txt") if lock == "model.txt" else {})
    waiting = [requirement for extra in EXTRAS[lock] for requirement in needed(extra)]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonical(requirement.name)
        if (requirement.marker and not requirement.marker.evaluate({**IMAGE, "extra": ""})) or name in seen:
            continue
        seen.add(name)
        assert name in locked, f"{lock} lacks {requirement}"
        assert requirement.specifier.contains(locked[name]), f"{lock} has {name} {locked[name]}, not {requirement}"
        waiting += [Requirement(text) for text in distribution(name).requires or []]


def test_the_two_builds_of_torch_are_two_files() -> None:
    cpu, cuda = ((LOCKS / f"torch-{variant}.txt").read_text().partition("torch==2")[2] for variant in ("cpu", "cu130"))
    assert cpu.split("sha256:")[1][:64] != cuda.split("sha256:")[1][:64]


def test_the_build_lock_has_the_versions_of_the_build_system() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {name: pins("build.txt")[name] for name in (line.partition("==")[0] for line in requires)} == dict(
        line.split("==") for line in requires
    )


def test_the_images_of_others_are_named_by_digest() -> None:
    texts = {
        path: path.read_text() for path in DEPLOY.rglob("*") if path.suffix == ".yaml" or path.name == "Dockerfile"
    }
    named = [image for text in texts.values() for image in re.findall(r"docker\.io/[\w./-]+:[\w.-]+\S*", text)]
    assert len(named) >= 5
    assert [image for image in named if not re.search(r"@sha256:[0-9a-f]{64}\b", image)] == []


def fetch(folder: Path, commands: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script that fetches the weights, with a command `hf` of the test's own."""
    hf = folder / "bin" / "hf"
    hf.parent.mkdir()
    hf.write_text(f"#!/bin/sh\n{commands}\n")
    hf.chmod(0o755)
    environment = {
        "PATH": f"{hf.parent}:{os.environ['PATH']}",
        "CHROMA_MODEL": str(folder / "weights"),
        "WEIGHTS_SOURCE": "organisation/name",
        **variables,
    }
    script = DEPLOY / "k8s" / "base" / "fetch-weights.sh"
    return subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=False)


needs_flock = pytest.mark.skipif(shutil.which("flock") is None, reason="no flock on this machine")
WRITE = 'mkdir -p "$CHROMA_MODEL"; printf words >"$CHROMA_MODEL/config.json"'


@needs_flock
@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:39], "0" * 40, ""])
def test_weights_of_a_name_that_can_move_are_refused(revision: str, tmp_path: Path) -> None:
    refused = fetch(tmp_path, WRITE, WEIGHTS_REVISION=revision)
    assert refused.returncode == 1
    assert "expected the 40 hex digits of a commit" in refused.stderr
    assert not (tmp_path / "weights").exists()


@needs_flock
def test_weights_are_served_only_with_the_digest_that_was_reviewed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shown = fetch(tmp_path / "a", WRITE, WEIGHTS_REVISION=COMMIT)
    assert shown.returncode == 0, shown.stderr
    digest = shown.stdout.split()[-1]
    (tmp_path / "b").mkdir()
    again = fetch(tmp_path / "b", WRITE, WEIGHTS_REVISION=COMMIT, WEIGHTS_SHA256=digest)
    assert again.returncode == 0, again.stderr
    (tmp_path / "c").mkdir()
    other = fetch(tmp_path / "c", WRITE.replace("words", "other"), WEIGHTS_REVISION=COMMIT, WEIGHTS_SHA256=digest)
    assert other.returncode == 1
    assert "not the weights that were reviewed" in other.stderr
    assert not (tmp_path / "c" / "weights" / ".complete").exists()


@pytest.mark.slow
def test_wheels_that_are_there_are_not_asked_for_again(tmp_path: Path) -> None:
    wheels, locks = tmp_path / "wheels", tmp_path / "deploy" / "requirements"
    wheels.mkdir()
    locks.mkdir(parents=True)
    shutil.copytree(DEPLOY / "supply", tmp_path / "deploy" / "supply")
    wheel = wheels / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for name in ("build", "gateway", "model", "torch-cpu"):
        (locks / f"{name}.txt").write_text(f"thing==1.0 --hash=sha256:{digest}\n")
    program = [sys.executable, tmp_path / "deploy" / "supply" / "wheels.py", wheels, "cpu"]
    asked = []

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = {"PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/", "PIP_CONFIG_FILE": os.devnull}
        wheels_py = partial(subprocess.run, program, env={**os.environ, **address}, capture_output=True)
        assert wheels_py().returncode == 0
        assert not asked
        wheel.unlink()
        assert wheels_py().returncode != 0
        assert set(asked) == {"/thing/"}
        server.shutdown()
