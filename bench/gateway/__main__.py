"""The gateway's cost: CPU time of a conversation-second, and the first sound that it adds: `make bench-gateway`.

Three processes beside the gateway: a Valkey, the fake stages (stages.py) and the callers (callers.py). All share this
machine, so the first sounds at many callers are an upper bound; the CPU time is the gateway's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc.aio
import numpy as np

from chroma.v1 import dialogue_pb2_grpc
from chroma_voice.local import store
from chroma_voice.local.ports import free_ports
from tests.support.gateway_client import new_voice
from tests.support.local_stack import environment
from tests.support.server_process import Replica, StoreProcess

_WARM_UP_S = 20.0
"""Longer than a turn."""


@dataclass(frozen=True)
class Cost:
    """What one number of callers cost."""

    callers: int
    cpu_ms: float
    """CPU time of all processes of the gateway for each second of each conversation, in milliseconds."""
    added_median_ms: float
    added_p95_ms: float
    """First sound after the commit, less what the stages took for it by their own clocks. The transport between the
    five processes is in it."""
    turns: int
    late: int
    """Pieces of speech that came after the moment of their playback."""
    failed: int


def cpu_s(pid: int) -> float:
    """CPU time of a process and its children that live, in seconds."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(int(child)) for child in children)


def measure(gateway: Replica, callers: int, seconds: float) -> Cost:
    """Let so many callers talk for so long after all have begun."""
    command = [sys.executable, "-m", "bench.gateway.callers", gateway.address, str(callers), str(seconds)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "all at work\n":
            assert process.poll() is None, "the callers ended"
        before_s, begun_s = cpu_s(gateway.process.pid), time.monotonic()
        time.sleep(seconds)
        used_s, took_s = cpu_s(gateway.process.pid) - before_s, time.monotonic() - begun_s
        heard = json.loads(process.stdout.read())
    added_ms = 1000 * np.array(heard["added_s"] or [np.nan])
    return Cost(
        callers=callers,
        cpu_ms=round(1000 * used_s / (took_s * callers), 2),
        added_median_ms=round(float(np.median(added_ms)), 1),
        added_p95_ms=round(float(np.percentile(added_ms, 95)), 1),
        turns=len(heard["added_s"]),
        late=heard["late"],
        failed=len(heard["failed"]),
    )


async def _create_voice(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await dialogue_pb2_grpc.VoiceServiceStub(channel).CreateVoice(new_voice("bench"))


async def _start(process: Replica | StoreProcess) -> None:
    process.start()
    await process.until_serving()


def run(
    folder: Path, callers: Sequence[int], seconds: float, processes: int = 1, warm_up_s: float = _WARM_UP_S
) -> list[Cost]:
    """Start everything, measure each number of callers, end everything. `processes`: of the gateway."""
    (port,) = free_ports(1)
    config, password = store.write_config(folder / "valkey", port)
    valkey = StoreProcess(config, password, port, folder / "valkey.log")
    command = [sys.executable, "-m", "bench.gateway.stages"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as stages:
        assert stages.stdout is not None
        reasoner, speech_gen, codec = stages.stdout.readline().split()
        settings = {
            "CHROMA_REASONER": reasoner,
            "CHROMA_SPEECH_GEN": speech_gen,
            "CHROMA_CODEC": codec,
            "CHROMA_REDIS_URL": valkey.url,
            "CHROMA_GATEWAY_PROCESSES": str(processes),
        }
        gateway = Replica("gateway", [sys.executable, "-m", "gateway"], settings, folder / "gateway.log")
        try:
            asyncio.run(_start(valkey))
            asyncio.run(_start(gateway))
            asyncio.run(_create_voice(gateway.address))
            if warm_up_s:  # a first turn loads what later ones use
                measure(gateway, 1, warm_up_s)
            costs = []
            for count in callers:
                costs.append(measure(gateway, count, seconds))
                print(_row(costs[-1]), flush=True)
            return costs
        finally:
            gateway.close()
            valkey.close()
            stages.kill()


_HEAD = (
    "| callers | gateway CPU, ms a conversation-second | conversations a core | first sound added, median ms | p95 ms "
    "| turns | late pieces | failed |\n|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def _row(cost: Cost) -> str:
    return (
        f"| {cost.callers} | {cost.cpu_ms} | {1000 / max(cost.cpu_ms, 1e-3):.0f} | {cost.added_median_ms} "
        f"| {cost.added_p95_ms} | {cost.turns} | {cost.late} | {cost.failed} |"
    )


def main() -> None:
    """Read the options, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 32, 64, 96])
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--processes", type=int, default=1, help="of the gateway (CHROMA_GATEWAY_PROCESSES)")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    print(_HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        costs = run(Path(folder), options.callers, options.seconds, options.processes)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + "\n")


if __name__ == "__main__":
    main()
