"""One process of the gateway, as the supervisor sees it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gateway.processes.channel import Channel, ChannelClosed, Handler
from services.common.telemetry.merged_metrics import Families

_METRICS_S = 2.0
"""How long a process may take to tell its metrics. Later than that, those that it told last count."""


class Child:
    """A process that runs, or has run."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.number = number
        self.process = process
        self._channel = channel
        self._reading = asyncio.create_task(channel.run())
        self.silent_looks = 0
        """How often the supervisor has looked since it last heard of this process."""
        self.has_started = False
        """Whether its event loop has turned."""
        self.is_ready = False
        """Whether it can serve."""
        self.is_hung = False
        """Whether it was killed because its event loop stood still."""
        self.metrics: Families = []
        """The values that it told last."""

    @classmethod
    async def start(
        cls, number: int, command: Sequence[str], end: socket.socket, inherits: Sequence[int], handle: Handler
    ) -> Child:
        """Start the process. It runs in a session of its own, so that Ctrl-C reaches it only through the supervisor.

        `end`: the supervisor's end of the channel. `inherits`: the descriptors that stay open in the process.
        """
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, pass_fds=inherits, start_new_session=True
        )
        return cls(number, process, await Channel.open(end, handle))

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if it still runs."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait until the process has ended and all that it told is taken in. Returns its exit status, which is negative
        after a signal."""
        status = await self.process.wait()
        await self._reading
        return status

    async def ask(self, kind: str, value: Any, timeout_s: float) -> Any:
        """Ask the process. None: it does not answer."""
        try:
            return await self._channel.ask(kind, value, timeout_s=timeout_s)
        except (TimeoutError, ChannelClosed):
            return None

    async def read_metrics(self) -> Families:
        """The values of its metrics now, or those that it told last."""
        self.metrics = await self.ask("metrics", None, _METRICS_S) or self.metrics
        return self.metrics

    @property
    def how_it_ended(self) -> str:
        """In words."""
        status = self.process.returncode or 0
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
