"""`make bench-soak MINUTES=10`: callers who talk, cancel, barge in and hang up, against the real processes.

After the load, every process must hold the same resources as before it: no slot, no KV page outside the caches for
later turns, and the same number of asyncio tasks. The report shows resident memory too. The state before the load is
taken after a first part of the same load, when caches and allocators are filled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from chroma_voice import AudioDelta, ChromaError, Client, Conversation, TurnDone
from chroma_voice.local.state import Endpoints, StateFolder

SAMPLES = Path(__file__).parents[1] / "samples"
VOICE = "reader"
WORDS = "Unless to be rather cold hearted and rather selfish is to be ill disposed."
PROCESSES = ("gateway", "reasoner", "speech_gen", "codec")
TURNS = 3
"""Most turns of one conversation."""
PIECE_S = 0.1
SETTLE_S = 60.0
"""Longest wait until the processes have freed the resources of the last calls."""


class HangUp(Exception):
    """The caller leaves in the middle of a reply."""


@dataclass(frozen=True)
class Resources:
    """The resources that a process holds. `pages` are KV pages outside the caches for later turns."""

    slots: int
    pages: int
    tasks: int
    rss_bytes: int

    @property
    def exact(self) -> tuple[int, int, int]:
        """The numbers that must return exactly to their old values."""
        return self.slots, self.pages, self.tasks


def read(metrics_address: str) -> Resources:
    """The resources of the process with this metrics page."""
    with urllib.request.urlopen(f"http://{metrics_address}/metrics", timeout=60) as page:
        families = text_string_to_metric_families(page.read().decode())
    sums: Counter[str] = Counter()
    for family in families:
        for sample in family.samples:
            sums[sample.name] += int(sample.value)
    used, kept = sums["chroma_voice_kv_pages_used"], sums["chroma_voice_kv_pages_kept"]
    return Resources(
        sums["chroma_voice_slots_used"], used - kept, sums["chroma_voice_tasks"], sums["process_resident_memory_bytes"]
    )


def read_all(endpoints: Endpoints) -> dict[str, Resources]:
    """The resources of every process."""
    return {name: read(endpoints.metrics[name]) for name in PROCESSES}


async def settle(endpoints: Endpoints, expected: dict[str, Resources] | None) -> dict[str, Resources]:
    """The resources of every process once they are as `expected`, or free for None; after `SETTLE_S` in any case."""
    ends_s = time.monotonic() + SETTLE_S
    while True:
        held = await asyncio.to_thread(read_all, endpoints)
        if expected is None:
            settled = all(each.slots == 0 and each.pages == 0 for each in held.values())
        else:
            settled = all(held[name].exact == each.exact for name, each in expected.items())
        if settled or time.monotonic() > ends_s:
            return held
        await asyncio.sleep(0.5)


class Load:
    """`callers` concurrent series of random calls. `ends` counts the ends of their turns."""

    def __init__(self, gateway: str, *, callers: int, seed: int) -> None:
        self.ends: Counter[str] = Counter()
        self._gateway = gateway
        self._callers = callers
        self._seed = seed
        samples, self._rate_hz = soundfile.read(SAMPLES / "question_make_taco.wav", dtype="int16")
        piece = int(PIECE_S * self._rate_hz)
        self._question = [samples[at : at + piece].tobytes() for at in range(0, len(samples), piece)]

    async def run(self, seconds: float) -> None:
        """Run the calls for `seconds` and finish those that are open then.

        Raises every error of a call except RESOURCE_EXHAUSTED.
        """
        ends_s = time.monotonic() + seconds
        async with asyncio.TaskGroup() as places:
            for place in range(self._callers):
                places.create_task(self._place(random.Random(f"{self._seed} {place}"), ends_s))
        self._seed += 1

    async def _place(self, dice: random.Random, ends_s: float) -> None:
        async with Client(self._gateway, attempts=1) as client:
            while time.monotonic() < ends_s:
                try:
                    await self._call(client, dice)
                except HangUp:
                    pass
                except ChromaError as error:
                    if error.status != "RESOURCE_EXHAUSTED":
                        raise
                    self.ends["refused"] += 1

    async def _call(self, client: Client, dice: random.Random) -> None:
        talk = client.conversation(
            voice=VOICE, input_rate_hz=self._rate_hz, max_reply_s=dice.uniform(0.5, 4.0), max_lead_s=0.5
        )
        async with talk:
            for _ in range(dice.randint(1, TURNS)):
                await self._ask(talk, dice)
                end = dice.choice(("played to the end", "cancelled", "barged in", "hung up"))
                if end == "played to the end":
                    await self._receive_rest(talk)
                elif await self._receive_some(talk, dice.randint(1, 12)):
                    self.ends[end] += 1
                    await self._interrupt(talk, end, dice)

    async def _interrupt(self, talk: Conversation, end: str, dice: random.Random) -> None:
        """End the running reply in the way `end`, then wait for the end of the turn."""
        if end == "hung up":
            raise HangUp
        if end == "cancelled":
            await talk.cancel(played_s=dice.uniform(0.0, 0.5))
        else:
            await self._ask(talk, dice)
            await self._receive_rest(
                talk
            )  # waits for the interrupted reply; the call below waits for the reply to the new question
        await self._receive_rest(talk)

    async def _ask(self, talk: Conversation, dice: random.Random) -> None:
        if dice.random() < 0.5:
            for piece in self._question[: dice.randint(5, len(self._question))]:
                await talk.send_audio(piece)
        else:
            await talk.send_text("How do I make a taco?")
        await talk.commit()

    async def _receive_some(self, talk: Conversation, pieces: int) -> bool:
        """Receive this many pieces of sound. Returns False if the reply ended before."""
        async for event in talk.reply():
            pieces -= isinstance(event, AudioDelta)
            if isinstance(event, TurnDone):
                self._count(event)
                return False
            if not pieces:
                return True
        return False

    async def _receive_rest(self, talk: Conversation) -> None:
        async for event in talk.reply():
            if isinstance(event, TurnDone):
                self._count(event)

    def _count(self, done: TurnDone) -> None:
        if done.error is not None and done.error.status != "RESOURCE_EXHAUSTED":
            raise done.error
        self.ends["refused" if done.error else f"turns {done.outcome}"] += 1


async def soak(endpoints: Endpoints, *, minutes: float, callers: int, seed: int) -> dict[str, object]:
    """Run the load. Returns the resources of the processes before it, in the middle of it and after it."""
    load = Load(endpoints.gateway, callers=callers, seed=seed)
    await load.run(max(10.0, 6.0 * minutes))
    before = await settle(endpoints, None)
    load.ends.clear()
    running = asyncio.create_task(load.run(60.0 * minutes))
    await asyncio.wait([running], timeout=30.0 * minutes)
    within = await asyncio.to_thread(read_all, endpoints)
    await running
    after = await settle(endpoints, before)
    return {
        "minutes": minutes,
        "callers": callers,
        "ends": dict(sorted(load.ends.items())),
        **{
            when: {name: asdict(each) for name, each in held.items()}
            for when, held in (("before", before), ("within", within), ("after", after))
        },
        "back": all(after[name].exact == before[name].exact for name in PROCESSES),
    }


@contextmanager
def processes(folder: Path, model: str) -> Iterator[Endpoints]:
    """All processes, started with `chroma-voice up`, with an enrolled voice; stopped at the end."""

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "chroma_voice.cli", *arguments, "--state", str(folder)], check=True)

    run("up", "--detach", "--model", model)
    try:
        recording = str(SAMPLES / "voice_librivox_5s.wav")
        run("voice", "add", VOICE, recording, "--transcript", WORDS, "--consent", "public-domain recording")
        yield StateFolder(folder).endpoints()
    finally:
        run("down")


def table(result: dict[str, object]) -> Table:
    """A table of the resources: before -> in the middle -> after."""
    shown = Table(title=f"{result['callers']} callers for {result['minutes']:g} minutes: {result['ends']}")
    for column in ("process", "slots", "KV pages", "tasks", "RSS, MB"):
        shown.add_column(column)
    for name in PROCESSES:
        moments = [result[when][name] for when in ("before", "within", "after")]  # pyright: ignore[reportIndexIssue]
        cells = [" -> ".join(str(held[what]) for held in moments) for what in ("slots", "pages", "tasks")]
        shown.add_row(name, *cells, " -> ".join(f"{held['rss_bytes'] / 1e6:.0f}" for held in moments))
    return shown


def main() -> None:
    """Run the load, print a table, write JSON. The exit status is 1 when a process still holds resources."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, processes(Path(folder), arguments.model) as endpoints:
        result = asyncio.run(soak(endpoints, minutes=arguments.minutes, callers=arguments.callers, seed=arguments.seed))
    Console().print(table(result))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "soak.json").write_text(json.dumps(result, indent=2))
    sys.exit(not result["back"])


if __name__ == "__main__":
    main()
