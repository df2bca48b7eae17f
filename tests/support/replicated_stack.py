"""Two replicas of every service and two gateways, each a process of its own, over one store."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from chroma_voice import Client
from chroma_voice.local import checkpoint, store
from chroma_voice.local.ports import free_ports
from chroma_voice.local.stack import MODULES
from gateway.pipeline.upstreams import rank
from tests.support.local_stack import PATIENCE_S, VOICE_FILE, VOICE_TRANSCRIPT
from tests.support.server_process import Replica, ServerProcess, StoreProcess
from tests.support.small_disks import SmallDisks

REPLICAS = 2
SERVICES = ("codec", "speech_gen", "reasoner")
SPEECH_SLOTS = 4
_SETTINGS = {
    "CHROMA_THREADS": "1",
    "CHROMA_DRAIN_S": "60",
    "CHROMA_DRAIN_IDLE_S": "0",
    "CHROMA_MAX_CONNECTION_AGE_S": "20",
}


class ReplicatedStack:
    """All processes. The voices are enrolled in pairs: the two voices of a pair have different home replicas of
    speech_gen.

    With `small_disks`, each process writes only to a small disk of its own (`disk`), and a gateway its audit log to
    another one (`audit_disk`).
    """

    def __init__(self, folder: Path, *, small_disks: bool = False) -> None:
        model = {"CHROMA_MODEL": str(checkpoint.choose(checkpoint.TINY, folder).folder)}
        slots = {"speech_gen": {"CHROMA_SLOTS": str(SPEECH_SLOTS)}}
        self._folder = folder
        names = [f"{service}-{number}" for service in (*SERVICES, "gateway") for number in range(REPLICAS)]
        names += [f"gateway-{number}-audit" for number in range(REPLICAS)]
        self.disks = SmallDisks([folder / "disks" / name for name in (*names, "valkey")]) if small_disks else None
        self.replicas = {
            service: [self._replica(service, number, {**model, **slots.get(service, {})}) for number in range(REPLICAS)]
            for service in SERVICES
        }
        self.store = self._store_process()
        targets = {f"CHROMA_{service.upper()}": ",".join(self.addresses(service)) for service in SERVICES}
        settings = {**targets, "CHROMA_REDIS_URL": self.store.url}
        self.replicas["gateway"] = [self._replica("gateway", number, settings) for number in range(REPLICAS)]
        names = [f"reader-{number}" for number in range(50)]
        self.voices = tuple(
            next(name for name in names if self.home("speech_gen", name) is replica)
            for replica in self.replicas["speech_gen"]
        )

    def disk(self, process: ServerProcess) -> Path:
        """The folder of a process's small disk: the store's data, or temporary files."""
        return self._folder / "disks" / process.log_file.stem

    def audit_disk(self, gateway: Replica) -> Path:
        """The folder of the small disk with a gateway's audit log."""
        return self._folder / "disks" / f"{gateway.log_file.stem}-audit"

    async def start(self) -> None:
        """Start everything, wait until it serves, and enrol the voices."""
        for process in self.processes():
            process.start()
        await asyncio.gather(*(process.until_serving() for process in self.processes()))
        await self.all_seen()
        async with self.client() as client:
            for voice_id in self.voices:
                await client.create_voice(
                    voice_id, audio_file=VOICE_FILE.read_bytes(), transcript=VOICE_TRANSCRIPT, consent="public domain"
                )

    def close(self) -> None:
        """End everything."""
        for process in self.processes():
            process.close()
        if self.disks is not None:
            self.disks.close()

    def all(self) -> list[Replica]:
        """All replicas of all services and gateways."""
        return [replica for replicas in self.replicas.values() for replica in replicas]

    def processes(self) -> list[Replica | StoreProcess]:
        """All processes; the store is the first."""
        return [self.store, *self.all()]

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

    def _replica(self, service: str, number: int, settings: dict[str, str]) -> Replica:
        name = f"{service}-{number}"
        launcher: list[str] = []
        if self.disks is not None:
            disk = self._folder / "disks" / name
            launcher, settings = self.disks.launcher, {**settings, "TMPDIR": str(disk)}
            if service == "gateway":
                settings["CHROMA_AUDIT_FILE"] = str(self._folder / "disks" / f"{name}-audit" / "audit.log")
        command = [sys.executable, "-m", MODULES[service]]
        return Replica(service, command, {**_SETTINGS, **settings}, self._folder / f"{name}.log", launcher)

    def _store_process(self) -> StoreProcess:
        (port,) = free_ports(1)
        log_file = self._folder / "valkey.log"
        if self.disks is None:
            return StoreProcess(*store.write_config(self._folder / "valkey", port), port, log_file)
        folder = self._folder / "disks" / "valkey"
        config, password = store.write_config(self._folder / "valkey", port)
        config.write_text(config.read_text().replace(f'dir "{config.parent}"', f'dir "{folder}"'))
        return StoreProcess(config, password, port, log_file, self.disks.launcher)


@contextlib.contextmanager
def replicated(folder: Path, *, small_disks: bool = False) -> Iterator[ReplicatedStack]:
    """A started stack. It is ended at the end."""
    stack = ReplicatedStack(folder, small_disks=small_disks)
    try:
        asyncio.run(stack.start())
        yield stack
    finally:
        stack.close()
