"""`make bench-soak MINUTES=10`: callers, bad clients and faults, all at once, against the real processes.

Callers talk, cancel, barge in and hang up. Bad clients send what no protocol allows, stop reading and leave. Processes
are killed and frozen. Afterwards every process must hold the same resources as before: no slot, no KV page outside the
caches for later turns, no more asyncio tasks, no more file descriptors; and the store must hold the same keys. Memory
must not rise steadily. The state before the load is taken after a first part of the same load without faults, when
caches and allocators are filled.
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
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import linear_regression
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from bench.harness.plots import plot_soak
from bench.soak.bad_clients import BadClients
from bench.soak.callers import SAMPLES, VOICE, Callers
from bench.soak.faults import Faults
from chroma_voice.local.state import Endpoints, StateFolder

WORDS = "Unless to be rather cold hearted and rather selfish is to be ill disposed."
PROCESSES = ("gateway", "reasoner", "speech_gen", "codec")
SETTLE_S = 60.0
"""Longest wait until the processes have freed the resources of the last calls."""
SAMPLE_EVERY_S = 2.0
SPARE_DESCRIPTORS = 8
"""How far the number of a process's open files may move: pools of connections grow and shrink."""
MOST_GROWTH = 0.25
"""How far memory may rise in the second half of the load, as a share of what it was at the half."""
LEFT_KEYS = tuple(
    f"chroma:{kind}"
    for kind in (
        "consent",
        "revoked_recordings:",
        "session_deleted:",
        "voice_request:",
        "turn_request:",
        "used:",
        "used_by:",
        "held",
        "reserved:",
        "seats:",
        "turn_seats:",
    )
)
"""Beginnings of keys that outlive what they tell of: consents, counts, and marks and leases that end by themselves."""


@dataclass(frozen=True)
class Resources:
    """The resources that a process holds. `pages` are KV pages outside the caches for later turns."""

    slots: int
    pages: int
    tasks: int
    descriptors: int
    rss_bytes: int

    def is_back(self, before: Resources) -> bool:
        """Whether nothing is held that was not held `before`."""
        return (
            self.slots <= before.slots
            and self.pages <= before.pages
            and self.tasks <= before.tasks
            and self.descriptors <= before.descriptors + SPARE_DESCRIPTORS
        )


@dataclass
class Series:
    """What was measured every `SAMPLE_EVERY_S` during the load."""

    seconds: list[float] = field(default_factory=list)
    rss_mb: dict[str, list[float | None]] = field(default_factory=lambda: {name: [] for name in PROCESSES})
    """None: the process did not answer."""
    turns: list[int] = field(default_factory=list)
    """Turns that ended so far."""
    started_s: dict[str, float] = field(default_factory=dict)
    """When the process was last started, in seconds of the load; missing: before it."""

    def last_life(self, name: str) -> tuple[list[float], list[float]]:
        """The seconds and megabytes of a process, since it was last started."""
        began_s = self.started_s.get(name, 0.0)
        pairs = [(at_s, mb) for at_s, mb in zip(self.seconds, self.rss_mb[name], strict=True) if mb and at_s >= began_s]
        return [at_s for at_s, _ in pairs], [mb for _, mb in pairs]

    def slope_mb_per_min(self, name: str) -> float | None:
        """How fast the memory of a process rises in the second half of its life; None when that was under a minute."""
        seconds, megabytes = self.last_life(name)
        half = len(seconds) // 2
        if not half or seconds[-1] - seconds[half] < 30.0:
            return None
        return 60.0 * linear_regression(seconds[half:], megabytes[half:]).slope

    def grows(self, name: str) -> bool:
        """Whether the memory of a process rose by more than `MOST_GROWTH` in the second half of its life."""
        slope = self.slope_mb_per_min(name)
        if slope is None:
            return False
        seconds, megabytes = self.last_life(name)
        half = len(seconds) // 2
        return slope * (seconds[-1] - seconds[half]) / 60.0 > MOST_GROWTH * megabytes[half]


def sums(metrics_address: str) -> Counter[str]:
    """Each metric of the process with this page, summed over its labels."""
    with urllib.request.urlopen(f"http://{metrics_address}/metrics", timeout=60) as page:
        families = text_string_to_metric_families(page.read().decode())
    found: Counter[str] = Counter()
    for family in families:
        for sample in family.samples:
            found[sample.name] += int(sample.value)
    return found


def read(metrics_address: str) -> Resources:
    """The resources of the process with this metrics page."""
    found = sums(metrics_address)
    return Resources(
        found["chroma_voice_slots_used"],
        found["chroma_voice_kv_pages_used"] - found["chroma_voice_kv_pages_kept"],
        found["chroma_voice_tasks"],
        found["process_open_fds"],
        found["process_resident_memory_bytes"],
    )


def read_all(endpoints: Endpoints) -> dict[str, Resources]:
    """The resources of every process. The gateway's pool of connections to the store has a bound of its own."""
    held = {name: read(endpoints.metrics[name]) for name in PROCESSES}
    with SyncRedis.from_url(endpoints.redis_url) as redis:
        pool = len(redis.client_list()) - 1  # without this one
    return {**held, "gateway": replace(held["gateway"], descriptors=held["gateway"].descriptors - pool)}


def tracebacks(log: Path) -> list[str]:
    """The first traceback of a log, in a list; empty when there is none."""
    _, found, rest = log.read_text(errors="replace").partition("Traceback (most recent call last)")
    return [f"a traceback in {log.name}: {rest[:3000]}"] if found else []


async def count_keys(endpoints: Endpoints) -> int:
    """The number of the store's keys that nobody has deleted."""
    async with Redis.from_url(endpoints.redis_url, decode_responses=True) as redis:
        return len([key async for key in redis.scan_iter(count=1000) if not key.startswith(LEFT_KEYS)])


async def settle(endpoints: Endpoints, before: dict[str, Resources] | None) -> dict[str, Resources]:
    """The resources of every process once they are back at `before`, or free for None; after `SETTLE_S` in any case."""
    ends_s = time.monotonic() + SETTLE_S
    while True:
        held = await asyncio.to_thread(read_all, endpoints)
        if before is None:
            settled = all(each.slots == 0 and each.pages == 0 for each in held.values())
        else:
            settled = all(held[name].is_back(each) for name, each in before.items())
        if settled or time.monotonic() > ends_s:
            return held
        await asyncio.sleep(0.5)


def resident_mb(pid: int) -> float | None:
    """The resident memory of a process; None: there is no such process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure(folder: StateFolder, series: Series, callers: Callers) -> None:
    """Fill `series` until this is cancelled."""
    began_s = time.monotonic()
    pids = folder.endpoints().pids
    while True:
        at_s = time.monotonic() - began_s
        endpoints = folder.endpoints()
        series.seconds.append(at_s)
        series.turns.append(sum(count for end, count in callers.ends.items() if end.startswith("turns ")))
        for name in PROCESSES:
            series.rss_mb[name].append(resident_mb(endpoints.pids.get(name, 0)))
            if endpoints.pids.get(name) != pids.get(name):
                series.started_s[name] = at_s
        pids = endpoints.pids
        await asyncio.sleep(SAMPLE_EVERY_S)


async def soak(folder: StateFolder, *, minutes: float, callers: int, seed: int) -> dict[str, Any]:
    """Run the load. Returns what it met, the resources before and after it, and what is not as it must be."""
    endpoints = folder.endpoints()
    load = Callers(endpoints.gateway, count=callers, seed=seed, faults=True)
    bad, faults, series = BadClients(endpoints, seed), Faults(folder, seed), Series()
    await asyncio.gather(load.run(max(10.0, 6.0 * minutes)), BadClients(endpoints, seed).run(max(10.0, 6.0 * minutes)))
    before, keys_before = await settle(endpoints, None), await count_keys(endpoints)
    underruns_before = (await asyncio.to_thread(sums, endpoints.metrics["gateway"]))["chroma_voice_underruns_total"]
    load.ends.clear()
    measuring = asyncio.create_task(measure(folder, series, load))
    await asyncio.gather(*(part.run(60.0 * minutes) for part in (load, bad, faults)))
    measuring.cancel()
    await asyncio.wait([measuring])
    endpoints = folder.endpoints()
    after, keys_after = await settle(endpoints, before), await count_keys(endpoints)
    underruns = (await asyncio.to_thread(sums, endpoints.metrics["gateway"]))["chroma_voice_underruns_total"]
    failures = [f"{text}: {count} times" for text, count in (load.wrong + bad.wrong).items()]
    failures += [
        f"{name} holds {after[name]}, before {before[name]}"
        for name in PROCESSES
        if not after[name].is_back(before[name])
    ]
    failures += [f"the memory of {name} rises" for name in PROCESSES if series.grows(name)]
    if keys_after > keys_before:
        failures.append(f"{keys_after - keys_before} keys are left in the store")
    if not load.ends["turns completed"]:
        failures.append("no turn was completed")
    failures += [text for log in folder.logs.iterdir() for text in tracebacks(log)]
    return {
        "minutes": minutes,
        "callers": callers,
        "ends": dict(sorted(load.ends.items())),
        "visits of bad clients": dict(sorted(bad.visits.items())),
        "faults": dict(sorted(faults.count.items())),
        "underruns": underruns - underruns_before,
        "before": {name: asdict(each) for name, each in before.items()},
        "after": {name: asdict(each) for name, each in after.items()},
        "keys": [keys_before, keys_after],
        "slopes, MB/min": {name: series.slope_mb_per_min(name) for name in PROCESSES},
        "series": asdict(series),
        "failures": failures,
    }


@contextmanager
def processes(folder: Path, model: str) -> Iterator[StateFolder]:
    """All processes, started with `chroma-voice up`, with an enrolled voice; stopped at the end."""

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "chroma_voice.cli", *arguments, "--state", str(folder)], check=True)

    run("up", "--detach", "--model", model)
    try:
        recording = str(SAMPLES / "voice_librivox_5s.flac")
        run("voice", "add", VOICE, recording, "--transcript", WORDS, "--consent", "public-domain recording")
        yield StateFolder(folder)
    finally:
        run("down")


def tables(result: dict[str, Any]) -> Iterator[Table]:
    """What the load met, and the resources of the processes: before -> after."""
    met = Table(title=f"{result['callers']} callers for {result['minutes']:g} minutes")
    met.add_column("what")
    met.add_column("how often", justify="right")
    for part in ("ends", "visits of bad clients", "faults"):
        for what, count in result[part].items():
            met.add_row(what, str(count))
        met.add_section()
    met.add_row("underruns", str(result["underruns"]))
    yield met
    held = Table(title="before -> after")
    for column in ("process", "slots", "KV pages", "tasks", "descriptors", "RSS, MB", "slope, MB/min"):
        held.add_column(column)
    for name in PROCESSES:
        moments = [result[when][name] for when in ("before", "after")]
        whole = ("slots", "pages", "tasks", "descriptors")
        cells = [" -> ".join(str(each[what]) for each in moments) for what in whole]
        slope = result["slopes, MB/min"][name]
        memory = " -> ".join(f"{each['rss_bytes'] / 1e6:.0f}" for each in moments)
        held.add_row(name, *cells, memory, "restarted" if slope is None else f"{slope:+.1f}")
    held.add_section()
    held.add_row("store", "", "", "", "", "", f"{result['keys'][0]} -> {result['keys'][1]} keys")
    yield held


def main() -> None:
    """Run the load, print tables, write JSON and a picture. The exit status is 1 when something is not as before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, processes(Path(folder), arguments.model) as state:
        result = asyncio.run(soak(state, minutes=arguments.minutes, callers=arguments.callers, seed=arguments.seed))
    for table in tables(result):
        Console().print(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "soak.json").write_text(json.dumps(result, indent=2))
    plot_soak(result, arguments.out / "soak.png")
    for failure in result["failures"]:
        print(f"NOT AS IT MUST BE: {failure}")
    sys.exit(bool(result["failures"]))


if __name__ == "__main__":
    main()
