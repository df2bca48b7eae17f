"""What the processes of a replicated stack hold, and what is left in its store, when nothing runs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.support.replicated_stack import ReplicatedStack
from tests.support.server_process import Replica

SETTLE_S = 30.0
SPARE_DESCRIPTORS = 8
"""How far the number of a process's open files may move: pools of connections grow and shrink."""
_KEPT = (
    "consent",
    "revoked_recordings:",
    "session_deleted:",
    "voice_request:",
    "used:",
    "used_by:",
    "held",
    "reserved:",
)
KEPT_KEYS = tuple(f"chroma:{kind}".encode() for kind in _KEPT)
"""Beginnings of the keys that stay after all was deleted: the evidence of a consent, what makes a repeated request
known, and what a key has used and holds. What a turn of a killed gateway had reserved ends by itself.
"""


@dataclass(frozen=True)
class Held:
    """What a process holds. `calls` are running rpcs and conversations. `pages`: without those kept for later turns."""

    slots: float
    pages: float
    calls: float
    tasks: float
    descriptors: int


def held(replica: Replica) -> Held:
    """What a process holds at this moment."""
    metrics: dict[str, float] = {}
    for series, value in replica.metrics().items():
        name = series.partition("{")[0].removeprefix("chroma_voice_")
        if name == "rpcs_running" and "Watch" in series:
            continue  # the gateways follow the health of a replica for as long as they live
        metrics[name] = metrics.get(name, 0.0) + value
    return Held(
        metrics.get("slots_used", 0.0),
        metrics.get("kv_pages_used", 0.0) - metrics.get("kv_pages_kept", 0.0),
        metrics.get("rpcs_running", 0.0) + metrics.get("conversations", 0.0),
        metrics["tasks"],
        replica.descriptors(),
    )


def left(replica: Replica, most: Held) -> str:
    """What a process holds beyond what it may hold. Empty: nothing."""
    now = held(replica)
    free = not (now.slots or now.pages or now.calls) and now.tasks <= most.tasks
    return "" if free and now.descriptors <= most.descriptors + SPARE_DESCRIPTORS else f"{replica.log_file.stem}: {now}"


async def nothing_left(stack: ReplicatedStack, most: dict[Replica, Held]) -> None:
    """Wait until no process holds more than it may when nothing runs."""
    deadline = time.monotonic() + SETTLE_S
    while found := [text for replica in stack.all() if (text := left(replica, most[replica]))]:
        assert time.monotonic() < deadline, (found, most)
        await asyncio.sleep(0.2)


async def no_key_left(stack: ReplicatedStack, before: set[bytes]) -> None:
    """Wait until the store has no key that it had not before: a lost gateway's seats end with their leases."""
    deadline = time.monotonic() + SETTLE_S
    while left := [
        key for key in set(await stack.store.command("KEYS", "*")) - before if not key.startswith(KEPT_KEYS)
    ]:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.2)
