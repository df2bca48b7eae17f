"""`make bench-gaps`: how long a talker waits for a frame while somebody else's long question or voice comes in.

All three models share one engine thread and one device, which is the hardest case: in separate processes the operating
system shares the cores instead. The talker is paced, so its lead covers what it can; the longest time between two of
its frames says what it had to cover.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.in_process import InProcess
from bench.workload import CACHE, cached_checkpoint, make_session
from checkpoints.presets import Preset
from services.common.wire.audio import FRAME_S, HEARING_RATE_HZ

QUESTION_S = 30.0
LEAD_S = 2.0


async def measure(preset: Preset, *, frames: int) -> dict[str, dict[str, float]]:
    """The talker's gaps alone, beside a 30 s question with history, and beside a voice that nobody used yet."""
    ours = InProcess(cached_checkpoint(preset), slots=4)
    ours.warm_up()
    talker = make_session(ours.config, 1, voice_s=5, history_ids=48)
    asker = make_session(ours.config, 2, voice_s=5, history_ids=600)
    stranger = make_session(ours.config, 3, voice_s=20, history_ids=48)
    voices = {id(each): ours.voice(each) for each in (talker, asker, stranger)}
    question = torch.randn(int(QUESTION_S * HEARING_RATE_HZ), generator=torch.Generator().manual_seed(0)) * 0.1

    async def talk(engine: Any) -> list[float]:
        voice = voices[id(talker)]
        turn = await ours.turn(engine, voice, talker.history, frames, max_lead_s=LEAD_S)
        return turn.frame_s

    async def beside(engine: Any, other: Any) -> dict[str, float]:
        talking = asyncio.create_task(talk(engine))
        began_s = time.perf_counter()
        await asyncio.sleep(LEAD_S)
        arrived_s = time.perf_counter() - began_s
        taken_s = 0.0
        if other is not None:
            await other
            taken_s = time.perf_counter() - began_s - arrived_s
        return {**_gaps(await talking, arrived_s), "the other's turn ms": taken_s * 1e3}

    async with ours.running() as engine:
        await talk(engine)
        return {
            "alone": await beside(engine, None),
            "30 s question, 600 ids of history": await beside(
                engine, ours.turn(engine, voices[id(talker)], asker.history, 4, question=question)
            ),
            "first use of a 20 s voice": await beside(
                engine, ours.turn(engine, voices[id(stranger)], stranger.history, 4)
            ),
        }


def _gaps(frame_s: list[float], arrived_s: float) -> dict[str, float]:
    """Of frames from `arrived_s` on: the longest time between two, and the least lead over the listener."""
    late = [place for place in range(1, len(frame_s)) if frame_s[place] >= arrived_s]
    return {
        "longest gap ms": max(frame_s[place] - frame_s[place - 1] for place in late) * 1e3,
        "least lead ms": min(frame_s[0] + place * FRAME_S - frame_s[place] for place in late) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mid")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=CACHE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = asyncio.run(measure(arguments.preset, frames=arguments.frames))
    table = Table("beside", *next(iter(result.values())), title=f"a talker with {LEAD_S:g} s of lead")
    for name, row in result.items():
        table.add_row(name, *(f"{value:.0f}" for value in row.values()))
    Console().print(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gaps.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
