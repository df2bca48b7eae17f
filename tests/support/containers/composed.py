"""The processes of deploy/compose.yaml, run by podman-compose."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from chroma_voice import Client
from chroma_voice.keys_file import KeysFile
from chroma_voice.local.ports import LOOPBACK
from tests.support.containers.engine import LIMIT_S, Engine
from tests.support.local_stack import VOICE, VOICE_FILE, VOICE_TRANSCRIPT, run
from tests.support.manifests import SETTINGS
from tests.support.snippets import snippet_that_begins
from tests.support.tools import tool_folder

_PODMAN_COMPOSE = "podman-compose==1.6.0"
_COMMAND = """#!/bin/sh
option=$1 file=$2
shift 2
exec {python} -m podman_compose --in-pod false "$option" "$file" -f {override} "$@"
"""
LASTING = (*SETTINGS, "valkey")
"""The services that run until they are stopped."""


def podman_compose() -> Path:
    """The Python with the module `podman_compose`, whose folder may have been moved since it was made. Skips the test
    where it cannot be installed."""
    with tool_folder("podman-compose") as folder:
        python = folder / "bin" / "python"
        if not (folder / "bin" / "podman-compose").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            command = [python, "-m", "pip", "install", "--quiet", _PODMAN_COMPOSE]
            installed = subprocess.run(command, capture_output=True, text=True)
            if installed.returncode != 0:
                pytest.skip(f"{_PODMAN_COMPOSE} cannot be installed: {installed.stderr.strip()[-500:]}")
    return python


@dataclass(frozen=True)
class Process:
    """A process in a container. `pid` is its id in the engine's namespaces."""

    engine: Engine
    pid: int

    @property
    def exists(self) -> bool:
        """Whether it runs, is stopped by a signal, or has ended just now."""
        return (self.engine.namespaces.proc / str(self.pid)).exists()

    @property
    def status(self) -> dict[str, str]:
        """The fields of /proc/PID/status."""
        lines = (self.engine.namespaces.proc / str(self.pid) / "status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def signal(self, name: str) -> None:
        """Send a signal, such as `signal("STOP")`."""
        self.engine.command("sh", "-c", f"kill -{name} {self.pid}")


class Composed:
    """The stack, with a key. `python` has podman-compose. The images must be in the engine's storage."""

    address = f"{LOOPBACK}:50051"
    url = f"http://{LOOPBACK}:8080"

    def __init__(self, engine: Engine, python: Path, valkey_image: str) -> None:
        self.engine = engine
        folder = engine.folder / "compose"
        keys = folder / "keys"
        keys.mkdir(parents=True)
        self.key = KeysFile(keys / "keys.json").add("test", "default", ["talk", "voices"], None)
        for path in (keys, keys / "keys.json"):
            path.chmod(0o755)
        self._variables = {"REDIS_PASSWORD": "of-the-test", "KEYS_FOLDER": str(keys)}
        # Only the name of the image: a registry's digest is known of a pulled image alone.
        override = folder / "images.yaml"
        override.write_text(yaml.safe_dump({"services": {"valkey": {"image": valkey_image}}}))
        command = folder / "bin" / "podman-compose"
        command.parent.mkdir()
        command.write_text(_COMMAND.format(python=python, override=override))
        command.chmod(0o755)
        self._variables["PATH"] = f"{command.parent}:{engine.environment['PATH']}"

    def run(self, code: str) -> str:
        """Run commands of podman-compose, such as a block of a document. Returns what they print."""
        done = self.engine.command("bash", "-eu", "-c", code, environment=self._variables, limit_s=2 * LIMIT_S)
        return done.stdout + done.stderr

    def compose(self, *arguments: str) -> str:
        """Run `podman-compose ARGUMENTS`. Returns what it prints."""
        return self.run(shlex.join(["podman-compose", "-f", "deploy/compose.yaml", *arguments]))

    def start(self) -> None:
        """Start everything as docs/operations.md does, wait until it is healthy, and enrol the sample voice."""
        self.run(snippet_that_begins("docs/operations.md", "podman-compose").code)
        for service in LASTING:
            self.until_healthy(service)
        options = ("--transcript", VOICE_TRANSCRIPT, "--consent", "public-domain recording")
        run("voice", "add", VOICE, VOICE_FILE, *options, "--gateway", self.address, CHROMA_API_KEY=self.key)

    def container(self, service: str) -> str:
        """The name of a service's container."""
        (name,) = self.engine.names(
            "ps", "--all", "--format", "{{.Names}}", "--filter", f"label=com.docker.compose.service={service}"
        )
        return name

    def is_healthy(self, service: str) -> bool:
        """Run the health check of a service once, as the engine's timer does where there is systemd."""
        return self.engine.run("healthcheck", "run", self.container(service), check=False).returncode == 0

    def until_healthy(self, service: str) -> None:
        """Run the health check until it passes."""
        end = time.monotonic() + LIMIT_S
        while not self.is_healthy(service):
            assert time.monotonic() < end, self.engine.run("logs", self.container(service), check=False).stderr
            time.sleep(0.5)

    def inside(self, service: str, *command: str, check: bool = True) -> str:
        """Run a command in a service's container. Returns its output."""
        done = self.engine.run("exec", self.container(service), *command, check=check)
        return done.stdout + done.stderr

    def process(self, service: str) -> Process:
        """A service's process: the child of the container's init process."""
        first = self.engine.inspect("container", self.container(service))["State"]["Pid"]
        (child,) = (self.engine.namespaces.proc / f"{first}/task/{first}/children").read_text().split()
        return Process(self.engine, int(child))

    def client(self) -> Client:
        """A client of the gateway at its published port."""
        return Client(self.address, api_key=self.key, attempts=1)


@contextlib.contextmanager
def composed(engine: Engine, valkey_image: str) -> Iterator[Composed]:
    """The started stack. Meanwhile this thread is in the engine's network, where the ports are published."""
    python = podman_compose()
    with engine.namespaces.network():
        stack = Composed(engine, python, valkey_image)
        stack.start()
        yield stack
