"""Faults in the middle of a load: processes are killed and frozen now and then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter

from chroma_voice.local.state import StateFolder

EVERY_S = 15.0
"""Seconds between the end of one fault and the next."""
FROZEN_S = (0.5, 4.0)
"""Shortest and longest freeze: below and above the 2 s within which a gateway misses a service."""
BACK_S = 120.0
KILLED = ("reasoner", "speech_gen", "codec", "valkey")
FROZEN = ("reasoner", "speech_gen", "codec", "valkey", "gateway")


class Faults:
    """Random faults of a launcher's processes. `count` tells how often each happened.

    A killed process is started again by the launcher; the fault ends when it is ready.
    """

    def __init__(self, folder: StateFolder, seed: int) -> None:
        self.count: Counter[str] = Counter()
        self._folder = folder
        self._dice = random.Random(f"faults {seed}")

    async def run(self, seconds: float) -> None:
        """One fault after the other for `seconds`."""
        ends_s = time.monotonic() + seconds
        await asyncio.sleep(EVERY_S / 2)
        while time.monotonic() < ends_s:
            if self._dice.random() < 0.5:
                await self._kill(self._dice.choice(KILLED))
            else:
                await self._freeze(self._dice.choice(FROZEN))
            await asyncio.sleep(EVERY_S)

    async def _kill(self, name: str) -> None:
        pid = self._folder.endpoints().pids[name]
        self.count[f"{name} killed"] += 1
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(BACK_S):
            while self._folder.endpoints().pids.get(name, pid) == pid:  # noqa: ASYNC110
                await asyncio.sleep(0.2)

    async def _freeze(self, name: str) -> None:
        pid = self._folder.endpoints().pids[name]
        self.count[f"{name} frozen"] += 1
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._dice.uniform(*FROZEN_S))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
