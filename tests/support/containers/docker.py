"""Docker, whose builder is BuildKit, in the namespaces of an engine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers.engine import Engine
from tests.support.debian_packages import unpacked

_PACKAGES = ("docker.io", "containerd", "runc", "tini")
_START_S = 120.0
_PID_FILE = "/run/docker.pid"


class Docker:
    """A running dockerd. Its images lie in the engine's folder."""

    def __init__(self, engine: Engine) -> None:
        """Skips the test where Docker cannot be fetched or does not start."""
        self.engine = engine
        programs = unpacked("docker", *_PACKAGES, dependencies=True)
        folder = engine.folder / "docker"
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "runc").symlink_to(engine.runtime)
        path = [folder / "bin", programs / "usr/bin", programs / "usr/sbin"]
        self.environment = {
            **engine.environment,
            "PATH": ":".join([*map(str, path), engine.environment["PATH"]]),
            "DOCKER_HOST": "unix:///run/docker.sock",
            "DOCKER_BUILDKIT": "1",
        }
        self._log = folder / "log"
        options = ("--exec-root", "/run/docker", "--pidfile", _PID_FILE, "--bridge", "none", "--iptables=false")
        with self._log.open("w") as log:
            self._daemon = subprocess.Popen(
                [*engine.namespaces.entering(), "dockerd", "--data-root", folder / "data", *options],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + _START_S
        while self.run("info", check=False).returncode != 0:
            if self._daemon.poll() is not None or time.monotonic() > end:
                self.close()
                pytest.skip(f"Docker does not run here: {self._log.read_text()[-1000:]}")
            time.sleep(0.2)

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `docker ARGUMENTS`."""
        return self.engine.command("docker", *arguments, check=check, environment=self.environment)

    def image(self, name: str) -> dict[str, Any]:
        """What Docker knows about an image."""
        return json.loads(self.run("image", "inspect", name).stdout)[0]

    def close(self) -> None:
        """Stop dockerd, and wait for its end."""
        self.engine.command("sh", "-c", f"kill $(cat {_PID_FILE})", check=False)
        self._daemon.wait()


@contextlib.contextmanager
def docker(engine: Engine) -> Iterator[Docker]:
    """A running Docker, which is stopped at the end."""
    docker = Docker(engine)
    try:
        yield docker
    finally:
        docker.close()
