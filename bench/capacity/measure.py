"""`python -m bench.capacity measure`: one load on the real stack of this machine, for comparison with the simulation.

It starts `chroma-voice up` with few slots, calls it with `chroma-voice bench`, and keeps in one small JSON file what
callers heard, what each engine's steps took by the server's own histograms, and the CPU time of each process. The KV
memory is made large enough for all slots, so that slots alone refuse turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
from prometheus_client.parser import text_string_to_metric_families

from chroma_voice.local.state import Endpoints, StateFolder
from tests.support import local_stack

ROOT = Path(__file__).resolve().parents[2]
KV_PAGES = 4096
STEP_METRICS = ("chroma_voice_step_seconds", "chroma_voice_step_width", "chroma_voice_stage_seconds")
KEPT_COUNTERS = ("chroma_voice_prompt_rows_total", "chroma_voice_admission_refused_total")


@dataclass(frozen=True)
class Load:
    """What is measured: conversations that arrive a second, and how each of them goes. Times are in seconds."""

    rate: float
    duration_s: float
    slots: int = 3
    seed: int = 1
    min_turns: int = 2
    max_turns: int = 4
    think_s: float = 0.8
    barge_in: float = 0.1
    questions: tuple[str, ...] = ("samples/question_make_taco.wav", "samples/utterance_librivox_3s.flac")

    def bench_command(self, state: str, out: str) -> list[str]:
        """The command that calls the server."""
        command = ["bench", "--state", state, "--out", out, "--rate", f"{self.rate:g}"]
        command += ["--duration", f"{self.duration_s:g}", "--seed", str(self.seed), "--think", f"{self.think_s:g}"]
        command += ["--min-turns", str(self.min_turns), "--max-turns", str(self.max_turns)]
        command += ["--barge-in", f"{self.barge_in:g}"]
        for question in self.questions:
            command += ["--question", question]
        return command


def engine_figures(pages: Mapping[str, str]) -> dict[str, float]:
    """Sums and counts of the engines' histograms, and counters, by "process metric kind", of the pages' text."""
    found: dict[str, float] = defaultdict(float)
    for process, text in pages.items():
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                is_sum = family.name in STEP_METRICS and sample.name.endswith(("_sum", "_count"))
                if is_sum or sample.name in KEPT_COUNTERS:
                    label = next(name for name in ("kind", "stage", "source", "reason") if name in sample.labels)
                    kind = sample.labels[label]
                    found[f"{process} {sample.name} {kind}"] += sample.value
    return dict(found)


def steps_between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Steps by "process kind": how many, their mean milliseconds, and the mean number of streams in one."""
    steps: dict[str, dict[str, float]] = {}
    for name, value in after.items():
        process, metric, kind = name.split(" ")
        count = value - before.get(name, 0.0)
        if metric != "chroma_voice_step_seconds_count" or not count:
            continue

        def grown(metric: str, process: str = process, kind: str = kind) -> float:
            return after[f"{process} {metric} {kind}"] - before.get(f"{process} {metric} {kind}", 0.0)

        steps[f"{process} {kind}"] = {
            "count": count,
            "ms": round(grown("chroma_voice_step_seconds_sum") / count * 1e3, 3),
            "width": round(grown("chroma_voice_step_width_sum") / count, 3),
        }
    return steps


def stages_between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Mean milliseconds of the parts of the time to the first sound, as the gateway counts them."""
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    prefix = "gateway chroma_voice_stage_seconds_count "
    counts = {name.removeprefix(prefix): count for name, count in grown.items() if name.startswith(prefix) and count}
    sums = {stage: grown[f"gateway chroma_voice_stage_seconds_sum {stage}"] for stage in counts}
    return {stage: round(sums[stage] / count * 1e3, 2) for stage, count in counts.items()}


def heard(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the callers heard, from the records of `chroma-voice bench`."""
    ended = [turn for turn in turns if turn["outcome"] != "unfinished"]
    replies: dict[str, Counter[str]] = defaultdict(Counter)
    for turn in ended:
        if turn["outcome"] == "completed":
            replies[f"{turn['question']} {turn['voice']}"][f"{turn['sound_s']:.2f}"] += 1
    sounds_ms = sorted(round(turn["first_sound_s"] * 1e3) for turn in ended if turn["first_sound_s"] is not None)
    return {
        "turns": len(ended),
        "refused": sum(turn["status"] == "RESOURCE_EXHAUSTED" for turn in ended),
        "interrupted": sum(turn["outcome"] == "interrupted" for turn in ended),
        "failed otherwise": sum(
            turn["outcome"] == "failed" and turn["status"] != "RESOURCE_EXHAUSTED" for turn in ended
        ),
        "with gaps": sum(bool(turn["gaps"]) for turn in ended),
        "leading silence ms": round(
            max((turn["first_sound_s"] - turn["first_piece_s"] for turn in ended if turn["first_sound_s"]), default=0)
            * 1e3
        ),
        "first sound ms": sounds_ms,
        "reply s": {name: dict(sorted(lengths.items())) for name, lengths in sorted(replies.items())},
        "question s": {turn["question"]: round(turn["question_s"], 4) for turn in ended},
    }


def measure(loads: Mapping[str, Load]) -> dict[str, dict[str, Any]]:
    """Start the stack, run the loads one after the other, end the stack. All loads have the slots of the first one."""
    slots = next(iter(loads.values())).slots
    with tempfile.TemporaryDirectory() as folder:
        state = f"{folder}/state"
        up = ["up", "--detach", "--sample-voices", "--state", state, "--slots", str(slots)]
        kv: dict[str, Any] = {"CHROMA_REASONER_KV_PAGES": str(KV_PAGES), "CHROMA_SPEECH_GEN_KV_PAGES": str(KV_PAGES)}
        local_stack.run(*up, **kv)
        started = " ".join([*(f"{name}={value}" for name, value in kv.items()), "chroma-voice", *up])
        try:
            # Each voice speaks before it counts: the first reply in a voice computes its prompt.
            local_stack.run(*Load(0.5, 15.0, slots, seed=2).bench_command(state, f"{folder}/warm"))
            endpoints = StateFolder(Path(state)).endpoints()
            return {
                name: {"up": started.replace(state, "STATE"), **_one(load, endpoints, state, f"{folder}/{name}")}
                for name, load in loads.items()
            }
        finally:
            local_stack.run("down", "--state", state)


def _one(load: Load, endpoints: Endpoints, state: str, out: str) -> dict[str, Any]:
    """Run a load on a stack that has started."""
    command = load.bench_command(state, out)
    before, cpu_before = _figures(endpoints.metrics), _cpu_s(endpoints.pids)
    commands_before, machine_before_s = _store_commands(endpoints.redis_url), machine_busy_s()
    _call(command)
    after, cpu_after = _figures(endpoints.metrics), _cpu_s(endpoints.pids)
    commands_after, machine_s = _store_commands(endpoints.redis_url), machine_busy_s() - machine_before_s
    result = json.loads(next(Path(out).glob("*/bench.json")).read_text(encoding="utf-8"))
    cpu_s = {name: round(cpu_after[name] - cpu_before[name], 1) for name in cpu_after}
    cpu_s["load generator"] = round(sum(each["cpu"] * each["interval_s"] for each in result["health"]), 1)
    return {
        "bench": " ".join(["chroma-voice", *command]).replace(state, "STATE").replace(out, "OUT"),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _output(["git", "rev-parse", "--short", "HEAD"]),
        "machine": f"{os.cpu_count()} cores of {_processor()}",
        "load": vars(load) | {"voices": result["settings"]["voices"].split(", ")},
        "seconds": round(result["summary"]["seconds"], 1),
        "mean conversations": round(result["summary"]["mean_conversations"], 2),
        **heard(result["turns"]),
        "steps": steps_between(before, after),
        "stages ms": stages_between(before, after),
        "counters": {
            name: value - before.get(name, 0.0)
            for name, value in after.items()
            if name.split(" ")[1] in KEPT_COUNTERS and value != before.get(name, 0.0)
        },
        "store commands": {
            name: count - commands_before.get(name, 0)
            for name, count in sorted(commands_after.items())
            if count > commands_before.get(name, 0)
        },
        "cpu s": cpu_s | {"other processes": round(machine_s - sum(cpu_s.values()), 1)},
        "notes": result["notes"],
    }


def _call(command: Sequence[str]) -> None:
    """Run a load, which may take long. Ends with its output when it fails."""
    command = [sys.executable, "-m", "chroma_voice.cli", *command]
    done = subprocess.run(command, cwd=ROOT, env=local_stack.environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the load ended with status {done.returncode}:\n{done.stdout}{done.stderr}")


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "an unknown processor"


def _figures(pages: Mapping[str, str]) -> dict[str, float]:
    texts: dict[str, str] = {}
    for process, address in pages.items():
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
            texts[process] = page.read().decode()
    return engine_figures(texts)


def _store_commands(url: str) -> dict[str, int]:
    """Calls of each command that the store has run, those inside scripts too."""
    with redis.Redis.from_url(url) as store:
        found: Any = store.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(figures["calls"]) for name, figures in found.items()}


def machine_busy_s() -> float:
    """CPU time of all processes of the machine so far, in seconds."""
    fields = [int(each) for each in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _cpu_s(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU time of each process so far, in seconds."""
    found: dict[str, float] = {}
    for name, pid in pids.items():
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        found[name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found
