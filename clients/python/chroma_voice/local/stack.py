"""The processes on one machine: their addresses, their start and the order in which they stop."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chroma_voice.local import store
from chroma_voice.local.certificate import Certificate
from chroma_voice.local.drain import count_conversations
from chroma_voice.local.exposure import asks_for_keys
from chroma_voice.local.health import is_serving
from chroma_voice.local.ports import LOOPBACK, ports_for
from chroma_voice.local.processes.fork_server import ForkServer, has_fork_server
from chroma_voice.local.processes.process import PipedProcess, Process
from chroma_voice.local.processes.supervisor import Change, Probe, Report, supervise
from chroma_voice.local.state import Endpoints, StateFolder, open_private

MODULES = {
    "codec": "services.codec",
    "speech_gen": "services.speech_gen",
    "reasoner": "services.reasoner",
    "gateway": "gateway",
}
"""Every server process and the Python module that runs it."""

SERVICES = ("codec", "speech_gen", "reasoner")
"""The server processes with a model."""

SHARED_PACKAGES = ("torch", "pydantic_settings")
"""What the processes of the services import once and share (services/common/fork_server.py)."""

STORE = "valkey"
FORK_SERVER = "fork_server"
_DRAIN_S = 120.0
"""How long running turns may take to end, unless CHROMA_DRAIN_S says otherwise: its default in every process."""
STOP_GRACE_S = 10.0
"""How long a process may take to end when no turn runs."""
_WATCH_EVERY_S = 1.0


@dataclass(frozen=True)
class Child:
    """A process and the probe that tells whether it is ready."""

    process: Process
    probe: Probe


class Stack:
    """All processes on one machine.

    The children inherit `environment`. If CHROMA_REDIS_URL is in it, no store is started. A process listens on
    CHROMA_<PROCESS>_LISTEN if this is set, otherwise on a Unix socket in the folder `sockets`: only those who can enter
    the folder reach it. It shows its metrics on CHROMA_<PROCESS>_METRICS_LISTEN if this is set, otherwise on a
    loopback port. `http_listen` (host:port) is the address of the page and the HTTP API; empty: a loopback port. A
    folder has the same ports at each start, unless other programs have taken them: a browser keeps permissions and
    settings for an address.
    With `certificate` they are served over TLS. Unless the gateway asks for keys, the page needs a token that is new at
    each start.
    """

    def __init__(
        self,
        folder: StateFolder,
        model: str,
        *,
        random_weights: bool,
        environment: Mapping[str, str],
        sockets: Path,
        http_listen: str = "",
        certificate: Certificate | None = None,
    ) -> None:
        self._folder = folder
        ports = ports_for(str(folder.path), [STORE, "http", *MODULES])
        store_port, http_listen = ports[STORE], http_listen or f"{LOOPBACK}:{ports['http']}"
        listen = {name: environment.get(_own(name, "listen")) or f"unix:{sockets}/{name}.sock" for name in MODULES}
        metrics_listen = {
            name: environment.get(_own(name, "metrics_listen")) or f"{LOOPBACK}:{ports[name]}" for name in MODULES
        }
        addresses = {name: _seen_from_here(address) for name, address in listen.items()}
        self._store: Child | None = None
        redis_url = environment.get("CHROMA_REDIS_URL", "")
        if not redis_url:
            config, password = store.write_config(folder.path / STORE, store_port)
            redis_url = store.url(store_port, password)
            process = Process(STORE, store.command(config), environment, folder.logs / f"{STORE}.log")
            self._store = Child(process, lambda: store.is_ready(store_port, password))
        of_gateway = {
            **{name: addresses[name] for name in SERVICES},
            "redis_url": redis_url,
            "http_listen": http_listen,
        }
        token = "" if asks_for_keys(environment) else secrets.token_urlsafe(32)
        if token:
            of_gateway["page_token"] = token
        if certificate:
            of_gateway |= {"http_tls_cert": str(certificate.chain), "http_tls_key": str(certificate.key)}
        defaults = {
            "PYTHONUNBUFFERED": "1",
            "CHROMA_THREADS": str(_threads()),
            "THP_MEM_ALLOC_ENABLE": "1",  # large pages for tensors: steps on a CPU are faster
        }
        if not {"CHROMA_DRAIN_S", _own("gateway", "drain_s")} & set(environment):
            defaults["CHROMA_DRAIN_IDLE_S"] = "0"  # an idle page holds nothing up: no other gateway takes over
        if not random_weights:
            defaults["CHROMA_TRANSCRIBE"] = "true"  # the page shows what the user said
        self._servers: dict[str, Child] = {}
        self._fork_server: ForkServer | None = None
        forked = [name for name in SERVICES if _is_on_cpu(name, environment)] if has_fork_server() else []
        if forked:
            command = [sys.executable, "-m", "services.common.fork_server", *SHARED_PACKAGES]
            log_file = folder.logs / f"{FORK_SERVER}.log"
            self._fork_server = ForkServer(PipedProcess(FORK_SERVER, command, {**defaults, **environment}, log_file))
        for name, module in MODULES.items():
            settings = {"listen": listen[name], "metrics_listen": metrics_listen[name]}
            settings |= of_gateway if name == "gateway" else {"model": model}
            variables = {_own(name, setting): value for setting, value in settings.items()}
            process = Process(
                name,
                [sys.executable, "-m", module],
                {**defaults, **environment, **variables},
                folder.logs / f"{name}.log",
                partial(self._fork_server.start, module) if self._fork_server and name in forked else None,
            )
            self._servers[name] = Child(process, partial(is_serving, addresses[name]))
        http = f"{'https' if certificate else 'http'}://{_seen_from_here(http_listen)}"
        self._endpoints = Endpoints(
            **addresses,
            page=f"{http}/",
            redis_url=redis_url,
            metrics={name: _seen_from_here(address) for name, address in metrics_listen.items()},
            model=model,
            random_weights=random_weights,
            pids={},
            drain_s=_drain_s(environment),
        )

    @property
    def names(self) -> list[str]:
        """Names of the processes, in the order in which they start."""
        return [*([STORE] if self._store else []), *self._servers]

    @property
    def drain_s(self) -> float:
        """How long running turns may take to end when everything stops."""
        return self._endpoints.drain_s

    async def run(
        self,
        *,
        report: Report,
        prepare: Callable[[Endpoints], Awaitable[None]],
        announce: Callable[[Endpoints], None],
        waiting_for: Callable[[int], None],
        stop: asyncio.Event,
        hurry: asyncio.Event,
    ) -> None:
        """Start everything, keep it running until `stop` is set, then stop everything.

        When all are ready, `prepare` is awaited, the endpoints are written and `announce` is called. While it stops,
        `waiting_for` is called with the number of conversations whose turn still runs, each time that this changes.
        When `hurry` is set, stopping kills the children at once. Raises `ChildDied` when a process ends before it was
        ever ready; the other processes are stopped first.
        """
        for name in [*self.names, *([FORK_SERVER] if self._fork_server else [])]:
            open_private(self._folder.logs / f"{name}.log", os.O_CREAT | os.O_TRUNC).close()
        waiting = set(self.names)
        store_ready, all_ready, announced = asyncio.Event(), asyncio.Event(), asyncio.Event()

        def changed(change: Change) -> None:
            report(change)
            if change.state != "ready":
                return
            waiting.discard(change.name)
            if change.name == STORE:
                store_ready.set()
            if waiting:
                return
            all_ready.set()
            if announced.is_set():  # a restart: its process id has changed
                self._folder.write_endpoints(self._with_pids())

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                if self._store:
                    group.create_task(supervise(self._store.process, self._store.probe, changed))
                    await store_ready.wait()
                for child in self._servers.values():
                    group.create_task(supervise(child.process, child.probe, changed))
                await all_ready.wait()
                await prepare(self._with_pids())
                self._folder.write_endpoints(self._with_pids())
                announced.set()
                announce(self._with_pids())

        running, stopped = asyncio.ensure_future(main()), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            running.cancel()
            stopped.cancel()
            await asyncio.wait((running,))
            await self._stop(waiting_for, hurry)
        if not running.cancelled() and (failure := running.exception()) is not None:
            raise failure.exceptions[0] if isinstance(failure, BaseExceptionGroup) else failure

    async def _stop(self, waiting_for: Callable[[int], None], hurry: asyncio.Event) -> None:
        """Stop the gateway first, so that running turns can finish, and the store last, so that they are recorded."""
        services = [child.process for name, child in self._servers.items() if name != "gateway"]
        gateway = self._servers["gateway"].process
        watching = asyncio.ensure_future(self._watch_drain(waiting_for))
        await gateway.stop(self._endpoints.drain_s + STOP_GRACE_S, hurry)
        watching.cancel()
        await asyncio.gather(*(process.stop(STOP_GRACE_S, hurry) for process in services))
        if self._fork_server:
            await self._fork_server.stop(STOP_GRACE_S, hurry)
        if self._store:
            await self._store.process.stop(STOP_GRACE_S, hurry)

    async def _watch_drain(self, waiting_for: Callable[[int], None]) -> None:
        told = 0
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            left = await asyncio.to_thread(count_conversations, self._endpoints.metrics["gateway"])
            if left and left != told:
                waiting_for(left)
                told = left

    def _with_pids(self) -> Endpoints:
        children = {**self._servers, **({STORE: self._store} if self._store else {})}
        pids = {name: child.process.pid for name, child in children.items()}
        pids[FORK_SERVER] = self._fork_server.pid if self._fork_server else None
        return Endpoints(**{**vars(self._endpoints), "pids": {name: pid for name, pid in pids.items() if pid}})


def _is_on_cpu(name: str, environment: Mapping[str, str]) -> bool:
    """Whether a service computes on the CPU. Others start by themselves: CUDA starts best in a process of its own."""
    return (environment.get(_own(name, "device")) or environment.get("CHROMA_DEVICE") or "cpu") == "cpu"


def _own(name: str, setting: str) -> str:
    """Return the variable of a setting that only process `name` reads. It overrides the variable for all processes."""
    return f"CHROMA_{name}_{setting}".upper()


def _drain_s(environment: Mapping[str, str]) -> float:
    """Return the gateway's drain time in seconds. A value that is no number stops the gateway, which names it."""
    try:
        return float(environment.get(_own("gateway", "drain_s")) or environment.get("CHROMA_DRAIN_S") or _DRAIN_S)
    except ValueError:
        return _DRAIN_S


def _threads() -> int:
    """Return the number of threads of each service. The three services compute at the same time on one machine."""
    return max(1, (os.cpu_count() or 1) // 2)


def _seen_from_here(listen: str) -> str:
    """Return the address to connect to for a listening address."""
    host, _, port = listen.rpartition(":")
    return f"{LOOPBACK}:{port}" if host in ("", "0.0.0.0", "[::]") else listen
