"""What is done to a process of a replicated stack: seven faults. Each lasts as long as its context."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as StoreGone

from tests.support.replicated_stack import ReplicatedStack
from tests.support.server_process import Replica, ServerProcess, StoreProcess

FROZEN_GATEWAY_S = 3.0


@contextlib.asynccontextmanager
async def fault(name: str, stack: ReplicatedStack, process: ServerProcess) -> AsyncIterator[None]:
    """Hurt a process. At the end all processes serve and know each other again."""
    try:
        async with _FAULTS[name](stack, process):
            yield
    finally:
        await process.until_serving_again()
        await stack.all_seen()


async def supervise(process: ServerProcess) -> None:
    """Start the process again each time that it has ended, until this is cancelled."""
    while True:
        if not process.runs:
            process.start()
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def killed(_stack: ReplicatedStack, process: ServerProcess) -> AsyncIterator[None]:
    """Killed with SIGKILL, and a store started again at once."""
    process.kill()
    await process.ended()
    if isinstance(process, StoreProcess):
        process.start()
    yield


@contextlib.asynccontextmanager
async def frozen(_stack: ReplicatedStack, process: ServerProcess) -> AsyncIterator[None]:
    """Stopped; a gateway for `FROZEN_GATEWAY_S`."""
    process.signal(signal.SIGSTOP)
    gateway = isinstance(process, Replica) and process.service == "gateway"
    thaw = asyncio.get_running_loop().call_later(FROZEN_GATEWAY_S, process.signal, signal.SIGCONT) if gateway else None
    try:
        yield
    finally:
        if thaw is not None:
            thaw.cancel()
        process.signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def slow(_stack: ReplicatedStack, process: ServerProcess) -> AsyncIterator[None]:
    """Runs for a sixth of the time."""

    async def hold_up() -> None:
        while True:
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(0.25)
            process.signal(signal.SIGCONT)
            await asyncio.sleep(0.05)

    holding = asyncio.create_task(hold_up())
    try:
        yield
    finally:
        holding.cancel()
        await asyncio.wait([holding])
        process.signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def restarted(_stack: ReplicatedStack, process: ServerProcess) -> AsyncIterator[None]:
    """Ended as for an upgrade."""
    process.signal(signal.SIGTERM)
    if isinstance(process, StoreProcess):
        assert await process.ended() == 0
        process.start()
        yield
        return
    yield
    assert await process.ended() == 0


@contextlib.asynccontextmanager
async def disk_full(stack: ReplicatedStack, process: ServerProcess) -> AsyncIterator[None]:
    """Every file that it writes is on a disk without a free byte."""
    assert stack.disks is not None
    folders = [stack.disk(process)]
    if isinstance(process, Replica) and process.service == "gateway":
        folders.append(stack.audit_disk(process))
    for folder in folders:
        stack.disks.fill(folder)
    supervising = asyncio.create_task(supervise(process))
    try:
        if isinstance(process, StoreProcess):
            with pytest.raises(StoreGone):  # a write that does not fit ends Valkey
                await process.command("SET", "filler", "x" * 10_000)
        yield
    finally:
        for folder in folders:
            stack.disks.empty(folder)
        supervising.cancel()
        await asyncio.wait([supervising])


@contextlib.asynccontextmanager
async def memory_full(_stack: ReplicatedStack, process: ServerProcess) -> AsyncIterator[None]:
    """Gets no further memory."""
    if isinstance(process, StoreProcess):
        await process.command("CONFIG", "SET", "maxmemory", "1kb")
        try:
            yield
        finally:
            await process.command("CONFIG", "SET", "maxmemory", 0)
        return
    hurt, written = process.process, process.log_file.stat().st_size
    process.limit_memory()
    supervising = asyncio.create_task(supervise(process))
    try:
        yield
    finally:
        supervising.cancel()
        await asyncio.wait([supervising])
        if process.runs:
            process.free_memory()
            if process.process is hurt and b"the engine gives up" in process.log_file.read_bytes()[written:]:
                await process.ended()


@contextlib.asynccontextmanager
async def read_only(stack: ReplicatedStack, process: ServerProcess) -> AsyncIterator[None]:
    """Writes to a read-only disk; a store has lost its copies."""
    assert stack.disks is not None
    if isinstance(process, StoreProcess):
        await process.command("CONFIG", "SET", "min-replicas-to-write", 1)
        try:
            yield
        finally:
            await process.command("CONFIG", "SET", "min-replicas-to-write", 0)
        return
    stack.disks.make_read_only(stack.disk(process))
    try:
        yield
    finally:
        stack.disks.make_writable(stack.disk(process))


_FAULTS = {each.__name__: each for each in (killed, frozen, slow, restarted, disk_full, memory_full, read_only)}
