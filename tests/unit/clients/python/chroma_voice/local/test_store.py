from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path

import redis.asyncio as redis

from chroma_voice.local import store
from chroma_voice.local.ports import free_ports
from chroma_voice.local.processes.process import Process


async def start(folder: Path) -> tuple[Process, str]:
    [port] = free_ports(1)
    config, password = store.write_config(folder / "valkey", port)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    process = Process("valkey", store.command(config), os.environ, folder / "valkey.log")
    await process.start()
    async with asyncio.timeout(60):
        while not await store.is_ready(port, password):
            assert process.pid is not None, process.last_lines()
    assert not await store.is_ready(port, "wrong")
    return process, store.url(port, password)


async def test_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    process, url = await start(tmp_path)
    async with redis.Redis.from_url(url) as client:
        assert await client.set("voice", b"codes")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    process, url = await start(tmp_path)
    async with redis.Redis.from_url(url) as client:
        assert await client.get("voice") == b"codes"
    assert await process.stop(30, asyncio.Event())


async def test_store_that_does_not_run_is_not_ready() -> None:
    [port] = free_ports(1)
    assert not await store.is_ready(port, "any")
