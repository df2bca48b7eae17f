"""`make bench-gaps`: the gaps between the frames of a reply while another stream brings a long question or a new voice.

All three models share one engine thread and one device. This is the hardest case: separate processes run at the same
time. The reply is paced and has a lead on its listener. The longest gap is what the lead has to cover.
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

from bench.harness.in_process import InProcess
from bench.harness.workload import CACHE, cached_checkpoint, make_session
from checkpoints.presets import Preset
from services.common.wire.audio import FRAME_S, HEARING_RATE_HZ

QUESTION_S = 30.0
LEAD_S = 2.0


async def measure(preset: Preset, *, frames: int) -> dict[str, dict[str, float]]:
    """The gaps of a reply alone, beside a 30 s question with history, and beside the first use of a voice."""
    ours = InProcess(cached_checkpoint(preset), slots=4)
    ours.warm_up()
    replying = make_session(ours.config, 1, voice_s=5, history_ids=48)
    asker = make_session(ours.config, 2, voice_s=5, history_ids=600)
    new_voice = make_session(ours.config, 3, voice_s=20, history_ids=48)
    voices = {id(each): ours.voice(each) for each in (replying, asker, new_voice)}
    question = torch.randn(int(QUESTION_S * HEARING_RATE_HZ), generator=torch.Generator().manual_seed(0)) * 0.1

    async def talk(engine: Any) -> list[float]:
        voice = voices[id(replying)]
        turn = await ours.turn(engine, voice, replying.history, frames, max_lead_s=LEAD_S)
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
        return {**_gaps(await talking, arrived_s), "other turn ms": taken_s * 1e3}

    async with ours.running() as engine:
        await talk(engine)
        return {
            "alone": await beside(engine, None),
            "30 s question, 600 ids of history": await beside(
                engine, ours.turn(engine, voices[id(replying)], asker.history, 4, question=question)
            ),
            "first use of a 20 s voice": await beside(
                engine, ours.turn(engine, voices[id(new_voice)], new_voice.history, 4)
            ),
        }


def _gaps(frame_s: list[float], arrived_s: float) -> dict[str, float]:
    """The longest gap between two frames, and the smallest lead on the listener, for frames from `arrived_s` on."""
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
    table = Table("beside", *next(iter(result.values())), title=f"a reply with {LEAD_S:g} s of lead")
    for name, row in result.items():
        table.add_row(name, *(f"{value:.0f}" for value in row.values()))
    Console().print(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gaps.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
