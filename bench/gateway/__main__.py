"""The gateway's cost: CPU time of a conversation-second, and the first sound that it adds: `make bench-gateway`.

Three processes beside the gateway: a Valkey, the fake stages (stages.py) and the callers (callers.py). The CPU time is
the gateway's own.

The first sound after the commit, less what the stages took by their own clocks, is what all else took: the gateway,
eight passages of a message from process to process, and the work of callers and stages, which share this machine. A
caller that makes the calls of a turn itself (direct.py) waits for six of the eight passages, callers and stages too.
So both are measured, and what the gateway adds is their difference.
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
from services import GRPC_EXPERIMENTS
from tests.support.gateway_client import new_voice
from tests.support.local_stack import environment
from tests.support.server_process import Replica, StoreProcess

_WARM_UP_S = 20.0
"""Longer than a turn."""
_DIRECT = "bench.gateway.direct"


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
    direct_median_ms: float
    direct_p95_ms: float
    """The same of callers without a gateway. Not a number: not measured."""
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


@dataclass(frozen=True)
class Heard:
    """What callers heard."""

    added_s: list[float]
    late: int
    failed: list[str]

    def added_ms(self, percent: float) -> float:
        """The percentile of the first sounds, less what the stages took for them, in milliseconds."""
        return round(1000 * float(np.percentile(self.added_s or [np.nan], percent)), 1)


_NOTHING = Heard([], 0, [])


def let_talk(
    module: str, count: int, seconds: float, addresses: Sequence[str], pid: int | None = None
) -> tuple[Heard, float]:
    """Let so many callers talk for so long after all have begun, by the program `module`.

    Returns what they heard, and the CPU time that the process `pid` took in a second of that, in seconds.
    """
    command = [sys.executable, "-m", module, str(count), str(seconds), *addresses]
    with subprocess.Popen(command, env=_environment_of(module), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "all at work\n":
            assert process.poll() is None, "the callers ended"
        before_s, begun_s = cpu_s(pid) if pid else 0.0, time.monotonic()
        time.sleep(seconds)
        used_s, took_s = cpu_s(pid) - before_s if pid else 0.0, time.monotonic() - begun_s
        return Heard(**json.loads(process.stdout.read())), used_s / took_s


def _environment_of(module: str) -> dict[str, str]:
    """Callers wait for messages as clients do, those without a gateway as a gateway does."""
    as_gateway = {"GRPC_EXPERIMENTS": GRPC_EXPERIMENTS} if module == _DIRECT else {}
    return {name: value for name, value in environment().items() if name != "GRPC_EXPERIMENTS"} | as_gateway


def measure(gateway: Replica, stages: Sequence[str], callers: int, seconds: float, *, direct: bool) -> Cost:
    """Let so many callers talk for so long after all have begun; with `direct`, first so many without a gateway."""
    alone = let_talk(_DIRECT, callers, seconds, stages)[0] if direct else _NOTHING
    heard, cpu = let_talk("bench.gateway.callers", callers, seconds, [gateway.address], gateway.process.pid)
    return Cost(
        callers=callers,
        cpu_ms=round(1000 * cpu / callers, 2),
        added_median_ms=heard.added_ms(50),
        added_p95_ms=heard.added_ms(95),
        direct_median_ms=alone.added_ms(50),
        direct_p95_ms=alone.added_ms(95),
        turns=len(heard.added_s),
        late=heard.late,
        failed=len(heard.failed) + len(alone.failed),
    )


async def _create_voice(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await dialogue_pb2_grpc.VoiceServiceStub(channel).CreateVoice(new_voice("bench"))


async def _start(process: Replica | StoreProcess) -> None:
    process.start()
    await process.until_serving()


def run(
    folder: Path,
    callers: Sequence[int],
    seconds: float,
    processes: int = 1,
    warm_up_s: float = _WARM_UP_S,
    *,
    direct: bool = True,
) -> list[Cost]:
    """Start everything, measure each number of callers, end everything. `processes`: of the gateway. `direct`: whether
    callers without a gateway are measured too."""
    (port,) = free_ports(1)
    config, password = store.write_config(folder / "valkey", port)
    valkey = StoreProcess(config, password, port, folder / "valkey.log")
    command = [sys.executable, "-m", "bench.gateway.stages"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as stages:
        assert stages.stdout is not None
        addresses = reasoner, speech_gen, codec = stages.stdout.readline().split()
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
                measure(gateway, addresses, 1, warm_up_s, direct=False)
            costs = []
            for count in callers:
                costs.append(measure(gateway, addresses, count, seconds, direct=direct))
                print(_row(costs[-1]), flush=True)
            return costs
        finally:
            gateway.close()
            valkey.close()
            stages.kill()


_HEAD = (
    "| callers | gateway CPU, ms a conversation-second | conversations a core | first sound less the stages, median ms "
    "| p95 ms | the same without a gateway, median ms | p95 ms | turns | late pieces | failed |\n|" + 10 * "---:|"
)


def _row(cost: Cost) -> str:
    return (
        f"| {cost.callers} | {cost.cpu_ms} | {1000 / max(cost.cpu_ms, 1e-3):.0f} | {cost.added_median_ms} "
        f"| {cost.added_p95_ms} | {cost.direct_median_ms} | {cost.direct_p95_ms} | {cost.turns} "
        f"| {cost.late} | {cost.failed} |"
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
