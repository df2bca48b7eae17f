"""The addresses of an upstream service: its target is resolved when it starts, every few seconds, and early on request.

Answers of name servers may be old: caches keep them for up to 30 s (NodeLocal DNSCache, managed clusters). A replica
that leaves therefore goes on serving for longer than that (`preStop` in the manifests).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from gateway.tasks import cancel
from services.common.settings import split_address

log = logging.getLogger(__name__)

DNS = "dns:///"
"""Prefix of a part of a target that stands for all addresses of a name."""

RESOLVE_EVERY_S = 5.0
_EARLY_EVERY_S = 0.5
"""The shortest time from one resolution to the next early one."""
_EARLY_LIMIT_S = 1.0
"""How long a caller waits for an early resolution."""


class Resolver:
    """Keeps the addresses of a target: `dns:///name:port` for all addresses of a name, `host:port` for itself.

    Parts are separated by commas. `found` is called with all addresses after each resolution. A part that cannot be
    resolved keeps the addresses that it had.
    """

    def __init__(self, target: str, found: Callable[[set[str]], None]) -> None:
        self._parts = [part.strip() for part in target.split(",") if part.strip()]
        self._found = found
        self._addresses: dict[str, set[str]] = {}
        self._asked_early = asyncio.Event()
        self._resolved = asyncio.Event()
        self._resolved_at_s = 0.0
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Resolve the target, and follow it from now on if it has names."""
        await self._resolve()
        if any(part.startswith(DNS) for part in self._parts):
            self._running = asyncio.create_task(self._resolve_forever())

    async def close(self) -> None:
        """Resolve no more."""
        if self._running is not None:
            await cancel(self._running)

    def ask_early(self) -> None:
        """Have the target resolved soon: one of its replicas went away or refused a call."""
        self._asked_early.set()

    async def resolve_early(self) -> None:
        """Wait until the target is resolved once more; at most a second. Returns at once for plain addresses."""
        if self._running is None:
            return
        self._resolved.clear()
        self.ask_early()
        with suppress(TimeoutError):
            async with asyncio.timeout(_EARLY_LIMIT_S):
                await self._resolved.wait()

    async def _resolve_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RESOLVE_EVERY_S):
                    await self._asked_early.wait()
                    await asyncio.sleep(max(0.0, self._resolved_at_s + _EARLY_EVERY_S - time.monotonic()))
            self._asked_early.clear()
            await self._resolve()

    async def _resolve(self) -> None:
        for part in self._parts:
            addresses = await _addresses_of(part.removeprefix(DNS)) if part.startswith(DNS) else {part}
            if addresses is not None:
                self._addresses[part] = addresses
        self._resolved_at_s = time.monotonic()
        self._found(set[str]().union(*self._addresses.values()))
        self._resolved.set()


async def _addresses_of(name: str) -> set[str] | None:
    """All addresses of `host:port`. None: the name cannot be resolved at the moment."""
    host, port = split_address(name)
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        log.warning("cannot resolve %s: %s", host, error)
        return None
    addresses: set[str] = set()
    for family, *_, address in answers:
        ip = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
        addresses.add(f"{ip}:{port}")
    return addresses
