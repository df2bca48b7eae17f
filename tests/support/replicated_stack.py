"""Two replicas of every service and two gateways, each a process of its own, over one store."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from chroma_voice import Client
from chroma_voice.local import checkpoint, store
from chroma_voice.local.health import is_serving
from chroma_voice.local.ports import LOOPBACK, free_ports
from chroma_voice.local.stack import MODULES
from gateway.pipeline.upstreams import rank
from tests.support.local_stack import PATIENCE_S, VOICE_FILE, VOICE_TRANSCRIPT, environment

REPLICAS = 2
SERVICES = ("codec", "speech_gen", "reasoner")
SPEECH_SLOTS = 4
_SETTINGS = {"CHROMA_THREADS": "1", "CHROMA_DRAIN_S": "60", "CHROMA_MAX_CONNECTION_AGE_S": "20"}


class Replica:
    """One process, which can be killed and started again at the same port."""

    def __init__(self, service: str, settings: dict[str, str], log_file: Path) -> None:
        self.service = service
        self.address, self._metrics = (f"{LOOPBACK}:{port}" for port in free_ports(2))
        self._settings = {**settings, "CHROMA_LISTEN": self.address, "CHROMA_METRICS_LISTEN": self._metrics}
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self._log_file.open("ab") as log:
            command = [sys.executable, "-m", MODULES[self.service]]
            self._process = subprocess.Popen(
                command, env={**environment(), **_SETTINGS, **self._settings}, stdout=log, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self._process is not None, "started before"
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self.signal(signal.SIGKILL)

    async def ended(self) -> int:
        """Wait until the process ends. Returns its exit status."""
        assert self._process is not None, "started before"
        return await asyncio.to_thread(self._process.wait, PATIENCE_S)

    async def until_serving(self) -> None:
        """Wait until it says that it serves."""
        async with asyncio.timeout(PATIENCE_S):
            while not await is_serving(self.address):
                assert self._process is not None, "started before"
                assert self._process.poll() is None, self._log_file.read_text()[-3000:]
                await asyncio.sleep(0.1)

    def metric(self, series: str) -> float:
        """The value of one series, named as on the metrics page. 0: the series is missing."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics") as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == series)

    def close(self) -> None:
        """End the process in whatever state it is."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class ReplicatedStack:
    """All processes. The voices are enrolled in pairs: the two voices of a pair have different home replicas of
    speech_gen.
    """

    def __init__(self, folder: Path) -> None:
        model = {"CHROMA_MODEL": str(checkpoint.choose(checkpoint.TINY, folder).folder)}
        slots = {"speech_gen": {"CHROMA_SLOTS": str(SPEECH_SLOTS)}}
        self.replicas = {
            service: [
                Replica(service, {**model, **slots.get(service, {})}, folder / f"{service}-{number}.log")
                for number in range(REPLICAS)
            ]
            for service in SERVICES
        }
        (store_port,) = free_ports(1)
        config, password = store.write_config(folder / "valkey", store_port)
        self._store_command = store.command(config)
        self._store_log = folder / "valkey.log"
        self._store_ready = store_port, password
        self._store: subprocess.Popen[bytes] | None = None
        targets = {f"CHROMA_{service.upper()}": ",".join(self.addresses(service)) for service in SERVICES}
        settings = {**targets, "CHROMA_REDIS_URL": store.url(store_port, password)}
        self.replicas["gateway"] = [
            Replica("gateway", settings, folder / f"gateway-{number}.log") for number in range(REPLICAS)
        ]
        names = [f"reader-{number}" for number in range(50)]
        self.voices = tuple(
            next(name for name in names if self.home("speech_gen", name) is replica)
            for replica in self.replicas["speech_gen"]
        )

    async def start(self) -> None:
        """Start everything, wait until it serves, and enrol the voices."""
        self._start_processes()
        async with asyncio.timeout(PATIENCE_S):
            while not await store.is_ready(*self._store_ready):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await asyncio.gather(*(replica.until_serving() for replica in self.all()))
            await self.all_seen()
        async with self.client() as client:
            for voice_id in self.voices:
                await client.create_voice(
                    voice_id, audio_file=VOICE_FILE.read_bytes(), transcript=VOICE_TRANSCRIPT, consent="public domain"
                )

    def close(self) -> None:
        """End everything."""
        for replica in self.all():
            replica.close()
        if self._store is not None:
            self._store.kill()
            self._store.wait()

    def all(self) -> list[Replica]:
        """All replicas of all services and gateways."""
        return [replica for replicas in self.replicas.values() for replica in replicas]

    def addresses(self, service: str) -> list[str]:
        """Where the replicas of a service listen."""
        return [replica.address for replica in self.replicas[service]]

    def home(self, service: str, key: str) -> Replica:
        """The home replica of a session (reasoner), voice (speech_gen) or turn (codec)."""
        first = rank(key, self.addresses(service))[0]
        return next(replica for replica in self.replicas[service] if replica.address == first)

    def client(self, gateway: int = 0) -> Client:
        """A client of one of the gateways. It sends each request once."""
        return Client(self.replicas["gateway"][gateway].address, attempts=1)

    def _start_processes(self) -> None:
        with self._store_log.open("wb") as log:
            self._store = subprocess.Popen(self._store_command, stdout=log, stderr=log)
        for replica in self.all():
            replica.start()

    async def bring_back(self, *replicas: Replica) -> None:
        """Start replicas that have ended, and wait until both gateways use them."""
        for replica in replicas:
            replica.start()
        for replica in replicas:
            await replica.until_serving()
        await self.all_seen()

    async def all_seen(self) -> None:
        """Wait until both gateways see all replicas serve."""
        async with asyncio.timeout(PATIENCE_S):
            for gateway in self.replicas["gateway"]:
                for service in SERVICES:
                    series = f'chroma_voice_replicas{{stage="{service}",state="serving"}}'
                    while gateway.metric(series) != REPLICAS:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)


@contextlib.contextmanager
def replicated(folder: Path) -> Iterator[ReplicatedStack]:
    """A started stack. It is ended at the end."""
    stack = ReplicatedStack(folder)
    try:
        asyncio.run(stack.start())
        yield stack
    finally:
        stack.close()
