"""`make bench-gpu`: everything that a GPU should tell, in one run of bounded length.

The parts run in the order of their worth: the tests that need a device, then the profile of a frame, the step tables
and the ladder of paced conversations, first with the weights as they are stored, then in fewer bits. After each part
the results so far are written to gpu_session.json, so a run that is cut off still tells. A part that fails leaves its
error there, and the next one begins. `bench/gpu/session.sh` runs it on a bare machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.gpu.measurements import Plan, described, frame_profile, load, real_time_factor, step_table, talk, talk_alone
from bench.harness.workload import CACHE
from bench.steps.costs import copy_rate
from services.runtime.checkpoint.dtypes import DTYPES
from services.runtime.checkpoint.quantized import WeightFormat

log = logging.getLogger("bench.gpu.session")

RESULT = "gpu_session.json"
LOG = "gpu_session.log"
DEFAULT_LIMIT_S = 525.0
"""With the start of Python and the installation of wheels less than nine minutes."""
TESTS_LIMIT_S = 120.0
LEFT_FOR_BITS_S = 75.0
"""Time that the ladder leaves for the weights in fewer bits."""
LOADING_S = 40.0
DEVICE_TESTS = ("tests/gpu", *sorted(map(str, Path("tests/unit").rglob("test_*_triton.py"))))
BITS: dict[WeightFormat, int] = {"as-stored": 16, "int8": 8, "int4": 4}


class Session:
    """The results so far, and the time that is left.

    Args:
        folder: where `RESULT` is written.
        limit_s: seconds for everything.
        clock: monotonic seconds.
    """

    def __init__(self, folder: Path, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.result: dict[str, Any] = {}
        self._path = folder / RESULT
        self._clock = clock
        self._ends_s = clock() + limit_s
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return self._ends_s - self._clock()

    def has(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return self.left_s >= seconds

    def keep(self, name: str, value: Any) -> None:
        """Keep a result, and write all results so far."""
        self.result[name] = value
        temporary = self._path.with_suffix(".part")
        temporary.write_text(json.dumps(self.result, indent=2))
        temporary.replace(self._path)

    @contextmanager
    def part(self, name: str, needs_s: float = 0.0) -> Iterator[bool]:
        """A part of the session. It yields whether there is time for it. Its error is kept and logged."""
        if not self.has(needs_s):
            log.warning("%s: left out, %.0f s are left and it needs %.0f", name, self.left_s, needs_s)
            self.keep(name, {"left out": f"{self.left_s:.0f} s were left"})
            yield False
            return
        began_s = self._clock()
        try:
            yield True
        except Exception as error:
            log.exception("%s failed", name)
            self.keep(name, {"error": f"{type(error).__name__}: {error}"[:2000]})
        log.info("%s: %.1f s, %.0f s are left", name, self._clock() - began_s, self.left_s)


def run(session: Session, plan: Plan, formats: Sequence[WeightFormat], tests: Sequence[str]) -> None:
    """All parts of the session."""
    session.keep("plan", asdict(plan))
    session.keep("machine", machine(plan.device))
    if tests:
        with session.part("tests", TESTS_LIMIT_S / 4) as fits:
            if fits:
                session.keep("tests", run_tests(tests, min(TESTS_LIMIT_S, session.left_s)))
    rate = copy_rate(plan.device)
    session.keep("copy rate GB/s", rate / 1e9)
    for place, name in enumerate(formats):
        with session.part(name, LOADING_S if place else 0.0) as fits:
            if fits:
                measure(session, plan, name, rate, ladder=place == 0)
        gc.collect()
        if plan.device.startswith("cuda"):
            torch.cuda.empty_cache()


def measure(session: Session, plan: Plan, name: WeightFormat, rate: float, *, ladder: bool) -> None:
    """The measurements with weights in one format. Only one format climbs the ladder."""
    began_s = time.monotonic()
    ours, checkpoint = load(plan, name)
    session.keep(f"{name}: memory", {"load s": time.monotonic() - began_s, **described(ours, plan)})
    for width in sorted({plan.widths[0], plan.widths[-1]}):
        with session.part(f"{name}: profile of {width}"):
            session.keep(f"{name}: profile of {width}", frame_profile(ours, width))
    with session.part(f"{name}: steps"):
        bits = BITS[name] if name != "as-stored" else 8 * DTYPES[plan.dtype].itemsize
        table = step_table(ours, checkpoint, plan, rate, bits, lambda: session.has(10))
        session.keep(f"{name}: steps", table)
        session.keep(f"{name}: RTF, alone", real_time_factor(table))
    with session.part(f"{name}: conversations"):
        asyncio.run(_converse(session, ours, plan, name, ladder=ladder))


async def _converse(session: Session, ours: Any, plan: Plan, name: str, *, ladder: bool) -> None:
    async with ours.running() as engine:
        session.keep(f"{name}: first sound ms, alone", await talk_alone(ours, engine, plan))
        rounds: list[dict[str, float]] = []
        for count in plan.conversations if ladder else ():
            if not session.has(plan.round_s + LEFT_FOR_BITS_S):
                log.warning("no time for %d conversations", count)
                break
            rounds.append(await talk(ours, engine, plan, count))
            session.keep(f"{name}: conversations", rounds)
            log.info("%s", rounds[-1])


def run_tests(tests: Sequence[str], limit_s: float) -> dict[str, Any]:
    """Run the tests that need a device in a process of their own. They need neither a store nor a network."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir=.", "--noconftest", "-q", "-m", "not slow"]
    command += ["--import-mode=importlib", "-p", "no:cacheprovider", "-W", "ignore", *tests]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        return {"passed": False, "status": None, "output": f"{text[-4000:]}\nno end within {limit_s:.0f} s"}
    return {"passed": done.returncode == 0, "status": done.returncode, "output": done.stdout[-4000:]}


def machine(device: str) -> dict[str, Any]:
    """The device and the versions that compute on it."""
    described: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    if not device.startswith("cuda"):
        return {"device": platform.machine(), **described}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "memory bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        **described,
    }


def print_summary(result: dict[str, Any], console: Console) -> None:
    """Print what was measured, one table a part."""
    console.print(f"{result['machine']['device']}, copies at {result.get('copy rate GB/s', float('nan')):.0f} GB/s")
    if "tests" in result:
        tests = result["tests"]
        console.print("tests:", str(tests.get("output", tests)).strip().splitlines()[-1])
    for name, value in result.items():
        if isinstance(value, list) and value:
            _print_rows(name, value, console)
        elif isinstance(value, float):
            console.print(f"{name}: {value:.4g}")
        elif isinstance(value, dict):
            _print_part(name, value, console)


def _print_rows(name: str, rows: list[dict[str, float]], console: Console) -> None:
    table = Table(*rows[0], title=name)
    for row in rows:
        table.add_row(*(f"{cell:.0f}" for cell in row.values()))
    console.print(table)


def _print_part(name: str, part: dict[str, Any], console: Console) -> None:
    if "error" in part or "left out" in part or name.endswith(": memory"):
        console.print(f"{name}: {part}")
    elif "launches" in part:
        sums = f"{part['launches']} launches, {part['device ms']:.2f} ms on the device"
        console.print(f"{name}: {sums}, {part['clock ms']:.2f} ms on the clock")
    elif name.endswith(": steps"):
        table = Table("streams", *(f"{model} ms (floor)" for model in part), title=name)
        for costs in zip(*part.values(), strict=True):
            table.add_row(str(costs[0]["width"]), *(f"{cost['ms']:.2f} ({cost['floor_ms']:.2f})" for cost in costs))
        console.print(table)


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default=Plan.preset)
    parser.add_argument("--device", default=Plan.device)
    parser.add_argument("--dtype", default=Plan.dtype, choices=sorted(DTYPES))
    parser.add_argument("--widths", type=int, nargs="+", default=Plan.widths)
    parser.add_argument("--context", type=int, default=Plan.context)
    parser.add_argument("--reply-frames", type=int, default=Plan.reply_frames)
    parser.add_argument("--conversations", type=int, nargs="+", default=Plan.conversations)
    parser.add_argument("--formats", nargs="+", default=list(BITS), choices=list(BITS))
    parser.add_argument("--tests", nargs="*", default=list(DEVICE_TESTS), help="test files; none: no tests")
    parser.add_argument("--limit-s", type=float, default=DEFAULT_LIMIT_S)
    parser.add_argument("--out", type=Path, default=CACHE)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    read = read_arguments(arguments)
    session = Session(read.out, read.limit_s)
    handlers = [logging.StreamHandler(), logging.FileHandler(read.out / LOG, mode="w")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", handlers=handlers, force=True)
    plan = Plan(
        preset=read.preset,
        device=read.device,
        dtype=read.dtype,
        widths=tuple(read.widths),
        context=read.context,
        reply_frames=read.reply_frames,
        conversations=tuple(read.conversations),
    )
    run(session, plan, read.formats, read.tests)
    print_summary(session.result, Console(width=120))
    print(read.out / RESULT)


if __name__ == "__main__":
    main()
