"""Smoke test of a turn at full size through the real services: whether it completes, its memory and its speed.

    python -m bench.stack.smoke_full [--preset full] [--frames 10] [--weights int8] [--state state/smoke]

The script writes the preset with random bfloat16 weights once (about 10.5 GB for `full`), starts all processes, enrols
a voice and asks a recorded question. It prints one JSON line: the peak memory of each process and of all together, the
seconds to the first sound, the seconds per frame, and the machine's rate of copying memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from chroma_voice import Client, Sampling, TurnDone
from chroma_voice.local.state import StateFolder

SAMPLES = Path(__file__).parents[2] / "samples"
VOICE = "smoke"
VOICE_FILE = SAMPLES / "utterance_librivox_3s.flac"
VOICE_TRANSCRIPT = "He was not an ill disposed young man."
QUESTION = SAMPLES / "question_make_taco.wav"
FRAME_S = 0.08
PATIENCE_S = 1800
SAMPLING = Sampling(seed=1)
SETTINGS = {
    "CHROMA_SLOTS": "1",
    "CHROMA_ENCODE_SLOTS": "1",
    "CHROMA_THREADS": str(os.cpu_count() or 1),
    "CHROMA_MAX_POSITIONS": "1024",
    "CHROMA_TURN_LIMIT_S": str(PATIENCE_S),
    "CHROMA_STAGE_PATIENCE_S": str(PATIENCE_S),
}
"""One stream, all cores, and the long timeouts that full size needs on a small machine."""


class MemoryWatch(threading.Thread):
    """Samples the total memory of the processes as proportional set size, which counts a shared page once."""

    def __init__(self, pids: list[int]) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._pids = pids
        self._over = threading.Event()

    def run(self) -> None:
        """Sample twice a second, and once more at the end."""
        over = False
        while not over:
            over = self._over.wait(0.5)
            self.peak_bytes = max(self.peak_bytes, sum(_status_bytes(pid, "smaps_rollup", "Pss") for pid in self._pids))

    def end(self) -> int:
        """Stop sampling and return the peak in bytes."""
        self._over.set()
        self.join()
        return self.peak_bytes


def main() -> int:
    """Run the test. The exit status is 0 only when the turn completed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full")
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--state", type=Path, default=Path("state/smoke"))
    parser.add_argument("--weights", choices=("as-stored", "int8", "int4"), default="as-stored")
    options = parser.parse_args()
    copy_gb_a_second = _copy_rate()
    checkpoint = options.state / "checkpoints" / options.preset
    if not checkpoint.exists():
        draft = checkpoint.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        _run("checkpoint", "new", options.preset, draft, "--dtype", "bfloat16", "--endless")
        draft.rename(checkpoint)
    _run(
        "up",
        "--detach",
        "--state",
        options.state,
        "--model",
        checkpoint,
        "--dtype",
        "bfloat16",
        "--weights",
        options.weights,
    )
    try:
        report = asyncio.run(_turn(StateFolder(options.state), options.frames))
    finally:
        _run("down", "--state", options.state)
    measured = {"preset": options.preset, "weights": options.weights, "copy_gb_a_second": copy_gb_a_second, **report}
    print(json.dumps(measured))
    return 0 if report["outcome"] == "completed" and report["frames"] == options.frames else 1


async def _turn(folder: StateFolder, frames: int) -> dict[str, Any]:
    endpoints = folder.endpoints()
    watch = MemoryWatch(list(endpoints.pids.values()))
    watch.start()
    samples, sample_rate_hz = soundfile.read(QUESTION, dtype="int16")
    async with Client(endpoints.gateway, timeout_s=PATIENCE_S) as client:
        if VOICE not in [voice.voice_id async for voice in client.list_voices()]:
            await client.create_voice(
                VOICE,
                audio_file=VOICE_FILE.read_bytes(),
                transcript=VOICE_TRANSCRIPT,
                consent="public-domain recording",
            )
        async with client.conversation(
            voice=VOICE,
            sampling=SAMPLING,
            max_reply_s=frames * FRAME_S,
            input_rate_hz=sample_rate_hz,
            max_lead_s=0.0,
        ) as talk:
            await talk.send_audio(samples.tobytes())
            await talk.commit()
            done = [event async for event in talk.reply()][-1]
    peak_bytes = watch.end()
    assert isinstance(done, TurnDone)
    spoken = round(done.output_audio_s / FRAME_S)
    first_s, last_s = done.timings.first_frame_s, done.timings.last_frame_s
    peaks = {name: _status_bytes(pid, "status", "VmHWM") for name, pid in endpoints.pids.items()}
    return {
        "outcome": done.outcome,
        "error": str(done.error or ""),
        "frames": spoken,
        "heard_s": done.timings.heard_s,
        "first_sound_s": done.timings.first_audio_s,
        "seconds_a_frame": (last_s - first_s) / (spoken - 1) if first_s and last_s and spoken > 1 else None,
        "peak_gb_together": round(peak_bytes / 1e9, 2),
        "peak_resident_gb": {name: round(peak / 1e9, 2) for name, peak in peaks.items()},
    }


def _copy_rate() -> float:
    """Bytes that this machine reads and writes when all cores copy memory, in 10^9 a second: the best of five."""
    source = np.ones(2**28, dtype=np.uint8)
    target = np.empty_like(source)
    cores = os.cpu_count() or 1
    parts = list(zip(np.array_split(target, cores), np.array_split(source, cores), strict=True))
    best_s = math.inf
    with ThreadPoolExecutor(cores) as copiers:
        for _ in range(6):
            began_s = time.perf_counter()
            list(copiers.map(lambda part: np.copyto(*part), parts))
            best_s = min(best_s, time.perf_counter() - began_s)
    return round(2 * source.nbytes / best_s / 1e9, 1)


def _status_bytes(pid: int, file: str, field: str) -> int:
    """A field of /proc/PID/FILE, in bytes; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _run(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "chroma_voice.cli", *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, **SETTINGS})


if __name__ == "__main__":
    raise SystemExit(main())
