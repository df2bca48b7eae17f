"""The processes of deploy/compose.yaml, run by podman-compose."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from chroma_voice import Client
from chroma_voice.keys_file import KeysFile
from chroma_voice.local.ports import LOOPBACK, free_ports
from tests.support.containers.engine import LIMIT_S, Engine
from tests.support.debian_packages import TOOLS
from tests.support.local_stack import VOICE, VOICE_FILE, VOICE_TRANSCRIPT, run
from tests.support.manifests import DEPLOY, SETTINGS

_PODMAN_COMPOSE = "podman-compose==1.6.0"
_PROJECT = "chroma-voice"
LASTING = (*SETTINGS, "valkey")
"""The services that run until they are stopped."""


def podman_compose() -> Path:
    """The program, in a virtual environment of its own. Skips the test where it cannot be installed."""
    folder = TOOLS / "podman-compose"
    program = folder / "bin" / "podman-compose"
    TOOLS.mkdir(parents=True, exist_ok=True)
    with open(TOOLS / "podman-compose.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", _PODMAN_COMPOSE]
            installed = subprocess.run(command, capture_output=True, text=True)
            if installed.returncode != 0:
                pytest.skip(f"{_PODMAN_COMPOSE} cannot be installed: {installed.stderr.strip()[-500:]}")
    return program


class Composed:
    """The stack, with a key and free ports of this machine. Its images must be in the engine's storage."""

    def __init__(self, engine: Engine, valkey_image: str) -> None:
        self.engine = engine
        self._program = podman_compose()
        folder = engine.folder / "compose"
        keys = folder / "keys"
        keys.mkdir(parents=True)
        self.key = KeysFile(keys / "keys.json").add("test", "default", ["talk", "voices"], None)
        for path in (keys, keys / "keys.json"):
            path.chmod(0o755)
        grpc_port, http_port = free_ports(2)
        self.address = f"{LOOPBACK}:{grpc_port}"
        self.url = f"http://{LOOPBACK}:{http_port}"
        self._variables = {
            "REDIS_PASSWORD": "of-the-test",
            "KEYS_FOLDER": str(keys),
            "GRPC_PORT": str(grpc_port),
            "HTTP_PORT": str(http_port),
        }
        # Only the name of the image: a registry's digest is known of a pulled image alone.
        self._override = folder / "images.yaml"
        self._override.write_text(yaml.safe_dump({"services": {"valkey": {"image": valkey_image}}}))

    def compose(self, *arguments: str) -> str:
        """Run `podman-compose ARGUMENTS`. Returns what it prints."""
        files = ("-f", str(DEPLOY / "compose.yaml"), "-f", str(self._override))
        done = self.engine.command(
            self._program, "--in-pod", "false", *files, *arguments, environment=self._variables, limit_s=LIMIT_S
        )
        return done.stdout + done.stderr

    def start(self) -> None:
        """Start everything, wait until it is healthy, and enrol the sample voice."""
        self.compose("up", "--detach", "--no-build")
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

    def process_id(self, service: str) -> int:
        """The id, on this machine, of a service's process: the child of the container's init process."""
        first = self.engine.inspect("container", self.container(service))["State"]["Pid"]
        (child,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return int(child)

    def client(self) -> Client:
        """A client of the gateway at its published port."""
        return Client(self.address, api_key=self.key, attempts=1)


@contextlib.contextmanager
def composed(engine: Engine, valkey_image: str) -> Iterator[Composed]:
    """The started stack. At the end it is taken down with its volumes."""
    stack = Composed(engine, valkey_image)
    try:
        stack.start()
        yield stack
    finally:
        engine.run("stop", "--all", "--time", "30", check=False)
        stack.compose("down", "--volumes")
