"""A real codec process whose engine hangs, then fails: what health says of it, and how the process ends."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chroma.v1 import codec_pb2_grpc
from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.codec_pb2 import DecodeOpen, DecodeRequest
from services.common.rpc.server import LIVENESS
from services.runtime.engine.failures import MAX_FAILURES_IN_A_ROW
from tests.support.golden_checkpoint import golden_checkpoint

PROCESS = """
import runpy, sys, time
from pathlib import Path
from services.codec.runner import CodecRunner

folder, step = Path(sys.argv[1]), CodecRunner.step

def injected(self, batch):
    while (folder / "hang").exists():
        time.sleep(0.01)
    if (folder / "fail").exists():
        raise RuntimeError("the device is lost")
    return step(self, batch)

CodecRunner.step = injected
runpy.run_module("services.codec", run_name="__main__")
"""
REQUESTS = [DecodeRequest(open=DecodeOpen()), DecodeRequest(frames=CodeFrames(codes=[0] * 8))]
NAMES = ("", "chroma.v1.CodecService", LIVENESS)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def free_addresses(count: int) -> list[str]:
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


async def say(channel: aio.Channel, status: int) -> None:
    """Wait until every health name of the listener says `status`."""
    health: Any = health_pb2_grpc.HealthStub(channel)
    for name in NAMES:
        async with asyncio.timeout(30):
            async for answer in health.Watch(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True):
                if answer.status == status:
                    break


@contextmanager
def marked(path: Path) -> Iterator[None]:
    path.touch()
    try:
        yield
    finally:
        path.unlink()


@pytest.mark.slow
async def test_health_follows_the_engine_and_the_process_ends_when_the_engine_fails(tmp_path: Path) -> None:
    listen, plain = free_addresses(2)
    environment = os.environ | {
        "CHROMA_MODEL": str(golden_checkpoint()),
        "CHROMA_LISTEN": listen,
        "CHROMA_HEALTH_LISTEN": plain,
        "CHROMA_ENGINE_STALL_S": "0.3",
        "CHROMA_SLOTS": "2",
        "CHROMA_THREADS": "1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, str(tmp_path), env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    reading = asyncio.create_task(process.stderr.read())
    try:
        async with aio.insecure_channel(listen) as channel, aio.insecure_channel(plain) as plain_channel:
            codec = codec_pb2_grpc.CodecServiceStub(channel)

            async def decode() -> int:
                return sum([len(response.pcm.data) async for response in codec.Decode(iter(REQUESTS))])

            await say(channel, SERVING)
            with marked(tmp_path / "hang"):
                decoding = asyncio.create_task(decode())
                await say(channel, NOT_SERVING)
                await say(plain_channel, NOT_SERVING)
            await say(channel, SERVING)
            await say(plain_channel, SERVING)
            assert await decoding == 2 * 1920
            with marked(tmp_path / "fail"):
                for _ in range(MAX_FAILURES_IN_A_ROW):
                    with pytest.raises(aio.AioRpcError) as failed:
                        await decode()
                    assert failed.value.code() is grpc.StatusCode.INTERNAL
                    assert "the device is lost" not in (failed.value.details() or "")
                await asyncio.wait_for(process.wait(), 30)
    finally:
        if process.returncode is None:
            process.kill()
        log = (await reading).decode()
    assert process.returncode == 1
    assert log.splitlines()[-1].endswith(
        "cannot serve: the engine has stopped: 5 failures in a row without a successful step, the last in `step`"
    ), log
