"""A server process of a test's own, which the test may kill, freeze, starve of memory and start again."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from chroma_voice.local import store
from chroma_voice.local.health import is_serving
from chroma_voice.local.ports import LOOPBACK, free_ports
from tests.support.local_stack import PATIENCE_S, environment


class ServerProcess(ABC):
    """A process. Its output is appended to `log_file`; `launcher` goes before the command."""

    def __init__(
        self, command: Sequence[str], settings: Mapping[str, str], log_file: Path, launcher: Sequence[str] = ()
    ) -> None:
        self.log_file = log_file
        self._command = [*launcher, *command]
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, "started before"
        return self._process

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def start(self) -> None:
        """Start the process."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env={**environment(), **self._settings}, stdout=log, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self.signal(signal.SIGKILL)

    async def ended(self) -> int:
        """Wait until the process ends. Returns its exit status."""
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether the process serves."""

    async def until_serving(self) -> None:
        """Wait until it says that it serves."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.is_ready():
                assert self.runs, self.log_file.read_text()[-3000:]
                await asyncio.sleep(0.1)

    async def until_serving_again(self) -> None:
        """Wait until it says that it serves. Start it whenever it has ended, as a supervisor would."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.is_ready():
                if not self.runs:
                    self.start()
                await asyncio.sleep(0.1)

    def limit_memory(self) -> None:
        """Let the process take no more memory than it has: each further allocation from the kernel fails."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[0])
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_AS)
        resource.prlimit(self.process.pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), hard))

    def free_memory(self) -> None:
        """Let the process take memory again."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_AS)
        resource.prlimit(self.process.pid, resource.RLIMIT_AS, (hard, hard))

    def descriptors(self) -> int:
        """The number of open file descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def close(self) -> None:
        """End the process in whatever state it is."""
        if self._process is not None and self.runs:
            self.process.kill()
            self.process.wait()


class Replica(ServerProcess):
    """A model service or gateway. It is started again at the same port."""

    def __init__(
        self,
        service: str,
        command: Sequence[str],
        settings: Mapping[str, str],
        log_file: Path,
        launcher: Sequence[str] = (),
    ) -> None:
        self.service = service
        self.address, self._metrics = (f"{LOOPBACK}:{port}" for port in free_ports(2))
        listen = {"CHROMA_LISTEN": self.address, "CHROMA_METRICS_LISTEN": self._metrics}
        super().__init__(command, {**settings, **listen}, log_file, launcher)

    @property
    def metrics_address(self) -> str:
        """Where the metrics page is, as host:port."""
        return self._metrics

    async def is_ready(self) -> bool:
        """Whether the process serves."""
        return await is_serving(self.address)

    def metric(self, series: str) -> float:
        """The value of one series, named as on the metrics page. 0: the series is missing."""
        return self.metrics().get(series, 0.0)

    def total(self, name: str) -> float:
        """The sum over all series of a metric."""
        return sum(value for series, value in self.metrics().items() if series.partition("{")[0] == name)

    def metrics(self) -> dict[str, float]:
        """The value of each series."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=60) as page:
            lines = [line.rpartition(" ") for line in page.read().decode().splitlines() if not line.startswith("#")]
        return {series: float(value) for series, _, value in lines}


class StoreProcess(ServerProcess):
    """A Valkey, started again at the same port with the same data."""

    def __init__(self, config: Path, password: str, port: int, log_file: Path, launcher: Sequence[str] = ()) -> None:
        self.url = store.url(port, password)
        self._address = port, password
        super().__init__(store.command(config), {}, log_file, launcher)

    async def is_ready(self) -> bool:
        """Whether the store answers."""
        return await store.is_ready(*self._address)

    async def command(self, *words: str | int) -> Any:
        """Run one command over a connection of its own."""
        async with Redis.from_url(self.url) as redis:
            return await redis.execute_command(*words)
