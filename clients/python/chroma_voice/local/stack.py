"""The processes on one machine: their addresses, their start and the order in which they stop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from chroma_voice.local import store
from chroma_voice.local.certificate import Certificate
from chroma_voice.local.health import is_serving
from chroma_voice.local.ports import LOOPBACK, free_ports
from chroma_voice.local.process import Process
from chroma_voice.local.state import Endpoints, StateFolder
from chroma_voice.local.supervisor import Change, Probe, Report, supervise

MODULES = {
    "codec": "services.codec",
    "speech_gen": "services.speech_gen",
    "reasoner": "services.reasoner",
    "gateway": "gateway",
}
"""Every server process and the Python module that runs it."""

SERVICES = ("codec", "speech_gen", "reasoner")
"""The server processes with a model."""

STORE = "valkey"
_DRAIN_S = 5.0
_STOP_GRACE_S = _DRAIN_S + 5.0


@dataclass(frozen=True)
class Child:
    """A process and the probe that tells whether it is ready."""

    process: Process
    probe: Probe


class Stack:
    """All processes on one machine.

    The children inherit `environment`. If CHROMA_REDIS_URL is in it, no store is started. A process listens on
    CHROMA_<PROCESS>_LISTEN and shows its metrics on CHROMA_<PROCESS>_METRICS_LISTEN if these are set, otherwise on free
    loopback ports. `http_listen` (host:port) is the address of the page and the HTTP API; empty: a free loopback port.
    With `certificate` they are served over TLS.
    """

    def __init__(
        self,
        folder: StateFolder,
        model: str,
        *,
        random_weights: bool,
        environment: Mapping[str, str],
        http_listen: str = "",
        certificate: Certificate | None = None,
    ) -> None:
        self._folder = folder
        store_port, http_port, *ports = free_ports(2 + 2 * len(MODULES))
        http_listen = http_listen or f"{LOOPBACK}:{http_port}"
        listen, metrics_listen = (
            {name: environment.get(_own(name, setting)) or f"{LOOPBACK}:{ports.pop()}" for name in MODULES}
            for setting in ("listen", "metrics_listen")
        )
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
        if certificate:
            of_gateway |= {"http_tls_cert": str(certificate.chain), "http_tls_key": str(certificate.key)}
        defaults = {
            "PYTHONUNBUFFERED": "1",
            "CHROMA_DRAIN_S": str(_DRAIN_S),
            "CHROMA_THREADS": str(_threads()),
            "THP_MEM_ALLOC_ENABLE": "1",  # large pages for tensors: steps on a CPU are 5 to 9 % faster
        }
        self._servers: dict[str, Child] = {}
        for name, module in MODULES.items():
            settings = {"listen": listen[name], "metrics_listen": metrics_listen[name]}
            settings |= of_gateway if name == "gateway" else {"model": model}
            variables = {_own(name, setting): value for setting, value in settings.items()}
            process = Process(
                name,
                [sys.executable, "-m", module],
                {**defaults, **environment, **variables},
                folder.logs / f"{name}.log",
            )
            self._servers[name] = Child(process, partial(is_serving, addresses[name]))
        self._endpoints = Endpoints(
            **addresses,
            page=f"{'https' if certificate else 'http'}://{_seen_from_here(http_listen, 'localhost')}/",
            redis_url=redis_url,
            metrics={name: _seen_from_here(address) for name, address in metrics_listen.items()},
            model=model,
            random_weights=random_weights,
            pids={},
        )

    @property
    def names(self) -> list[str]:
        """Names of the processes, in the order in which they start."""
        return [*([STORE] if self._store else []), *self._servers]

    async def run(
        self,
        *,
        report: Report,
        prepare: Callable[[Endpoints], Awaitable[None]],
        announce: Callable[[Endpoints], None],
        stop: asyncio.Event,
        hurry: asyncio.Event,
    ) -> None:
        """Start everything, keep it running until `stop` is set, then stop everything.

        When all are ready, `prepare` is awaited, then the endpoints are written and `announce` is called. When `hurry`
        is set, stopping kills the children at once. Raises `ChildDied` when a process ends before it was ever ready;
        the other processes are stopped first.
        """
        for name in self.names:
            (self._folder.logs / f"{name}.log").write_bytes(b"")
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
            await self._stop(hurry)
        if not running.cancelled() and (failure := running.exception()) is not None:
            raise failure.exceptions[0] if isinstance(failure, BaseExceptionGroup) else failure

    async def _stop(self, hurry: asyncio.Event) -> None:
        """Stop the gateway first, so that running turns can finish, and the store last, so that they are recorded."""
        services = [child.process for name, child in self._servers.items() if name != "gateway"]
        await self._servers["gateway"].process.stop(_STOP_GRACE_S, hurry)
        await asyncio.gather(*(process.stop(_STOP_GRACE_S, hurry) for process in services))
        if self._store:
            await self._store.process.stop(_STOP_GRACE_S, hurry)

    def _with_pids(self) -> Endpoints:
        children = {**self._servers, **({STORE: self._store} if self._store else {})}
        pids = {name: child.process.pid for name, child in children.items()}
        return Endpoints(**{**vars(self._endpoints), "pids": {name: pid for name, pid in pids.items() if pid}})


def _own(name: str, setting: str) -> str:
    """Return the variable of a setting that only process `name` reads. It overrides the variable for all processes."""
    return f"CHROMA_{name}_{setting}".upper()


def _threads() -> int:
    """Return the number of threads of each service. The three services compute at the same time on one machine."""
    return max(1, (os.cpu_count() or 1) // 2)


def _seen_from_here(listen: str, loopback: str = LOOPBACK) -> str:
    """Return the host:port to connect to for a listening address, with `loopback` as the name of this machine."""
    host, _, port = listen.rpartition(":")
    return f"{loopback}:{port}" if host in ("", "0.0.0.0", "[::]", LOOPBACK) else listen
