"""Several processes of one gateway behind the same ports: started, watched, replaced and drained together.

Each process is a whole gateway, as one replica of it would be. They share the addresses (SO_REUSEPORT), so the system
gives each new connection to one of them. The supervisor serves no calls. It

- replaces a process that ends, and one whose event loop stands still; after pauses that grow;
- ends all when a process ends before all have served, or when one keeps ending;
- passes SIGTERM and SIGINT on, and waits until all have drained; a second signal ends the calls at once;
- shows the metrics of all as one page (`read_metrics`), and passes questions from one process to the others.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from gateway.metrics import REPLACED_PROCESSES
from gateway.processes.child import Child
from gateway.processes.shared_counts import SharedCounts
from gateway.processes.worker import Assignment
from gateway.tasks import cancel
from services.common.errors import BadSetting, ChromaError, Unavailable
from services.common.telemetry.merged_metrics import Families, families, lasting

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_HUNG_LOOKS = 20
"""After so many looks without news of a process it is killed. Looks are counted, not seconds: a machine that slept has
lost time, but no looks."""
_START_LOOKS = 180
"""The same, before the first news of a process: a slow machine takes long to import."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_STEADY_S = 60.0
"""A process that served for so long and ends did not fail at its start."""
_MAX_FAILURES = 5
"""So many processes of one number in a row may end earlier than that."""
_OTHERS_S = 5.0
_METRICS_S = 5.0
_OWN_METRICS = ("process_", "chroma_voice_gateway_processes_replaced")
"""What the supervisor adds to the metrics of the processes: its own memory and CPU time, and what it counts."""


class Supervisor:
    """Runs the processes. `command` gives the command line for an assignment."""

    def __init__(
        self,
        command: Callable[[Assignment], Sequence[str]],
        processes: int,
        addresses: Mapping[str, str],
        *,
        look_every_s: float = _LOOK_EVERY_S,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        """`addresses`: those that the processes share, by the name of their setting."""
        self._command = command
        self._addresses = dict(addresses)
        self._processes = processes
        self._look_every_s = look_every_s
        self._first_pause_s = first_pause_s
        self._counts = SharedCounts.create(processes)
        self._children: dict[int, Child] = {}
        self._all_serve = asyncio.Event()
        """Set when all processes are ready for the first time."""
        self._stopping = asyncio.Event()
        self._signals = 0
        self._failure: ChromaError | None = None
        self._loop = asyncio.get_running_loop()
        self._ended_metrics: Families = []
        """What the processes that ended have counted."""

    async def run(self) -> None:
        """Run the processes until a signal, and drain them.

        Raises BadSetting or Unavailable when they cannot serve.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._take_signal)
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*(self._keep(number) for number in range(1, self._processes + 1)))
        finally:
            self._counts.close()
            await cancel(watching)
            for child in self._children.values():  # only when something failed unexpectedly
                child.signal(signal.SIGKILL)
                await child.ended()
        if self._failure is not None:
            raise self._failure

    def _take_signal(self) -> None:
        self._signals += 1
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        for child in self._children.values():
            self._pass_on(child)

    def _pass_on(self, child: Child) -> None:
        """Let a process drain. After a second signal it ends its calls at once."""
        if self._stopping.is_set():
            # Of another kind: two equal signals that come together are one.
            child.signal(signal.SIGTERM if self._signals < 2 else signal.SIGINT)

    async def _keep(self, number: int) -> None:
        """Keep one process running until all stop."""
        failures = 0
        while not self._stopping.is_set():
            child = await self._start(number)
            begun_s = self._loop.time()
            await child.ended()
            del self._children[number]
            self._counts.clear(number - 1)
            self._ended_metrics = lasting(self._ended_metrics, child.metrics)
            if self._stopping.is_set():
                return
            failures = 1 if self._loop.time() - begun_s > _STEADY_S else failures + 1
            if not self._all_serve.is_set() or failures >= _MAX_FAILURES:
                self._fail(child, failures)
                return
            REPLACED_PROCESSES.labels("hung" if child.is_hung else "ended").inc()
            pause_s = min(self._first_pause_s * 2 ** (failures - 1), _LONGEST_PAUSE_S)
            log.error("process %d %s: another one starts in %.1f s", number, child.how_it_ended, pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    def _fail(self, child: Child, failures: int) -> None:
        if self._failure is not None:
            return
        if self._all_serve.is_set():
            what = f"{failures} processes in a row ended early, the last one {child.how_it_ended}"
            self._failure = Unavailable(f"{what}: their log lines above say why")
        else:
            refused = child.process.returncode == 2  # a bad setting
            error = BadSetting if refused else Unavailable
            what = f"process {child.number} {child.how_it_ended} before all served"
            self._failure = error(f"{what}: its log lines above say why")
        self._stop()

    async def _start(self, number: int) -> Child:
        ours, theirs = socket.socketpair()
        counts = self._counts.file
        assert counts is not None, "made for processes to share"
        inherits = theirs.fileno(), counts.fileno()
        assignment = Assignment(number, self._processes, *inherits, self._addresses, replaces=self._all_serve.is_set())

        async def handle(kind: str, value: Any) -> Any:
            return await self._handle(number, kind, value)

        with theirs:
            child = await Child.start(number, self._command(assignment), ours, inherits, handle)
        self._children[number] = child
        self._pass_on(child)  # the signal may have come meanwhile
        return child

    async def _handle(self, number: int, kind: str, value: Any) -> Any:
        child = self._children[number]
        child.silent_looks = 0
        child.has_started = True
        if kind == "metrics":
            child.metrics = value
        elif kind == "ready":
            child.is_ready = True
            if len(self._children) == self._processes and all(other.is_ready for other in self._children.values()):
                self._all_serve.set()
            await self._all_serve.wait()
        elif kind == "others":
            return await self._ask_others(number, *value)
        return None

    async def _ask_others(self, number: int, kind: str, value: Any) -> list[Any]:
        others = [child for other, child in self._children.items() if other != number]
        answers = await asyncio.gather(*(child.ask(kind, value, _OTHERS_S) for child in others))
        return [answer for answer in answers if answer is not None]

    async def _watch(self) -> None:
        """Kill processes whose event loop stands still. `_keep` replaces them."""
        while True:
            await asyncio.sleep(self._look_every_s)
            for child in self._children.values():
                child.silent_looks += 1
                if child.silent_looks > (_HUNG_LOOKS if child.has_started else _START_LOOKS) and not child.is_hung:
                    silent_s = child.silent_looks * self._look_every_s
                    log.error("process %d has been silent for %.0f s: killed", child.number, silent_s)
                    child.is_hung = True
                    child.signal(signal.SIGKILL)

    def read_metrics(self) -> list[Families]:
        """The metrics of all processes, for a thread that is not the event loop's."""
        return asyncio.run_coroutine_threadsafe(self._ask_for_metrics(), self._loop).result(_METRICS_S)

    async def _ask_for_metrics(self) -> list[Families]:
        await asyncio.gather(*(child.read_metrics() for child in self._children.values()))
        # Some may have ended meanwhile. What they counted is in the last line.
        live = [child.metrics for child in self._children.values()]
        return [*live, families(only=_OWN_METRICS), self._ended_metrics]
