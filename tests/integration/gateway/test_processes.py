"""A gateway of two processes behind one port: real processes over fake services and a real store."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import grpc
import httpx
import pytest
from grpc import aio

from chroma.v1 import dialogue_pb2 as pb
from chroma_voice.local.ports import LOOPBACK, free_ports
from tests.integration.gateway.conftest import Fakes
from tests.support.gateway_client import Client, Talk, new_voice
from tests.support.local_stack import PATIENCE_S
from tests.support.server_process import Replica

pytestmark = pytest.mark.slow

MOST = 6
"""The conversations that the gateway may hold."""


class TwoProcesses(Replica):
    """The gateway, and which of its processes has which connection."""

    @property
    def processes(self) -> list[int]:
        """The ids of the processes that run."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def connections(self) -> dict[str, int]:
        """The process of each established connection to the gRPC port, by the connection's name in the kernel."""
        port = f":{int(self.address.rpartition(':')[2]):04X}"
        tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
        lines = [line.split() for table in tables for line in table.splitlines()[1:]]
        ours = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(port) and line[3] == "01"}
        found = {}
        for pid in self.processes:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    name = os.readlink(descriptor)
                except FileNotFoundError:
                    continue
                if name in ours:
                    found[name] = pid
        return found


@pytest.fixture
async def gateway(fakes: Fakes, redis_url: str, tmp_path: Path) -> AsyncIterator[TwoProcesses]:
    (http_port,) = free_ports(1)
    settings = {
        "CHROMA_REASONER": fakes.reasoner.address,
        "CHROMA_SPEECH_GEN": fakes.speech_gen.address,
        "CHROMA_CODEC": fakes.codec.address,
        "CHROMA_REDIS_URL": redis_url,
        "CHROMA_REQUIRE_DURABLE": "false",
        "CHROMA_HTTP_LISTEN": f"{LOOPBACK}:{http_port}",
        "CHROMA_MAX_CONVERSATIONS": str(MOST),
        "CHROMA_AUDIT_FILE": str(tmp_path / "audit.jsonl"),
        "CHROMA_GATEWAY_PROCESSES": "2",
        "CHROMA_DRAIN_IDLE_S": "0",
    }
    gateway = TwoProcesses("gateway", [sys.executable, "-m", "gateway"], settings, tmp_path / "gateway.log")
    gateway.start()
    try:
        await gateway.until_serving()
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://{LOOPBACK}:{http_port}/healthz", timeout=60)).json()["model_loaded"]
        yield gateway
    finally:
        gateway.close()


class Room:
    """Conversations over connections of their own, and the process that has each."""

    def __init__(self, gateway: TwoProcesses, at_end: AsyncExitStack) -> None:
        self._gateway = gateway
        self._at_end = at_end
        self.talks: list[tuple[Talk, int]] = []

    async def client(self) -> Client:
        """A client with a connection that no other one has."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = await self._at_end.enter_async_context(aio.insecure_channel(self._gateway.address, options=options))
        return Client(channel, None, self._gateway.address)  # pyright: ignore[reportArgumentType]

    async def open(self) -> tuple[Talk, int]:
        """Open a conversation. Returns it, and the process that has it."""
        before = self._gateway.connections()
        client = await self.client()
        talk = await self._at_end.enter_async_context(client.converse())
        async with asyncio.timeout(PATIENCE_S):
            while not (new := set(self._gateway.connections()) - set(before)):  # noqa: ASYNC110 (of another process)
                await asyncio.sleep(0.05)
        pid = self._gateway.connections()[new.pop()]
        self.talks.append((talk, pid))
        return talk, pid

    async def of_each_process(self) -> dict[int, Talk]:
        """One conversation of each process. Those that are not needed are closed."""
        found: dict[int, Talk] = {}
        while len(found) < 2:
            talk, pid = await self.open()
            if pid in found:
                await talk.finish()
            else:
                found[pid] = talk
        return found


@pytest.fixture
async def room(gateway: TwoProcesses) -> AsyncIterator[Room]:
    async with AsyncExitStack() as at_end:
        room = Room(gateway, at_end)
        await (await room.client()).voices.CreateVoice(new_voice("ada"))
        yield room


async def wait_for(gateway: TwoProcesses, series: str, value: float) -> None:
    """Wait until the metrics page shows this value."""
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(gateway.metric, series) != value:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def refused(room: Room) -> None:
    """Open conversations until one is refused."""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(aio.AioRpcError):
            while True:
                await room.open()


TURNS = 'chroma_voice_turns_total{outcome="completed",reply="generated",status="OK"}'


async def test_processes_share_calls_limits_and_metrics_and_a_killed_one_is_replaced(
    gateway: TwoProcesses, room: Room, fakes: Fakes, tmp_path: Path
) -> None:
    talks = await room.of_each_process()
    assert set(talks) == set(gateway.processes)
    for talk in talks.values():
        assert not (await talk.ask("hello")).HasField("error")
    await wait_for(gateway, TURNS, 2)
    await wait_for(gateway, "chroma_voice_conversations", 2)
    assert await asyncio.to_thread(gateway.metric, "chroma_voice_gateway_processes") == 2
    assert await asyncio.to_thread(gateway.metric, 'chroma_voice_serving{service="gateway"}') == 1
    assert {name for name in os.listdir(tmp_path) if "audit" in name} == {"audit-1.jsonl", "audit-2.jsonl"}
    log = (tmp_path / "gateway.log").read_text()
    assert all(f" process={number} turn=" in log for number in (1, 2)), "each line says which process wrote it"

    for _ in range(MOST - 2):
        await room.open()
    for _ in range(4):  # whichever process gets it
        with pytest.raises(aio.AioRpcError) as refused:
            await room.open()
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    (killed, lost), (_, kept) = talks.items()
    fakes.codec.script.hold_next_call(1)
    await kept.send(text="and now?")
    await kept.send(commit=pb.CommitTurn())
    await kept.until("audio")
    os.kill(killed, signal.SIGKILL)
    assert (await lost.error()).code() == grpc.StatusCode.UNAVAILABLE
    fakes.codec.script.go.set()
    assert not (await kept.done()).HasField("error")
    await wait_for(gateway, 'chroma_voice_gateway_processes_replaced_total{reason="ended"}', 1)
    await wait_for(gateway, "chroma_voice_gateway_processes", 2)
    await wait_for(gateway, TURNS, 3)
    new = {pid: talk for pid, talk in (await room.of_each_process()).items() if pid not in talks}
    assert len(new) == 1, "the process that replaces it gets calls, and the places of the killed one are free"


async def test_sigterm_lets_the_turns_of_all_processes_end(gateway: TwoProcesses, room: Room, fakes: Fakes) -> None:
    talks = await room.of_each_process()
    fakes.codec.script.hold_at = 1
    for talk in talks.values():
        await talk.send(text="hello")
        await talk.send(commit=pb.CommitTurn())
        await talk.until("audio")
    gateway.signal(signal.SIGTERM)
    await refused(room)
    fakes.codec.script.go.set()
    for talk in talks.values():
        assert not (await talk.done()).HasField("error")
    assert await gateway.ended() == 0
