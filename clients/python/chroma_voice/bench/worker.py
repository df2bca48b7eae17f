"""A worker process: it holds its share of the conversations, and sends its records to the process that started it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from chroma_voice.bench.caller import Caller
from chroma_voice.bench.listening.microphone import sleep_until
from chroma_voice.bench.load.plan import PlannedConversation, Question
from chroma_voice.bench.records import Health, TurnRecord
from chroma_voice.bench.self_watch import SelfWatch
from chroma_voice.bench.targets.target import Target

REPORT_EVERY_S = 0.25


@dataclass(frozen=True)
class Job:
    """What one worker does. `starts_at` is the start of the run in Unix time, which all workers share.

    `duration_s`: no turn begins later. None: the plan is held to its end. `grace_s`: how long the turns that are under
    way then may take to end.
    """

    worker: int
    plan: Sequence[PlannedConversation]
    questions: Sequence[Question]
    target: Target
    starts_at: float
    duration_s: float | None
    grace_s: float
    buffer_s: float
    patience_s: float


@dataclass(frozen=True)
class News:
    """What a worker sends: the turns that ended since the last time, and how the worker is. `is_last`: it has ended."""

    turns: list[TurnRecord]
    health: Health
    is_last: bool = False


def work(pipe: Pipe, job: Job) -> None:
    """Run a job in a process of its own. Anything on the pipe, or its end, stops the job early."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the starter says when to stop
    asyncio.run(_work(pipe, job))


async def _work(pipe: Pipe, job: Job) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe.fileno(), stop.set)
    try:
        with contextlib.suppress(BrokenPipeError):
            await run_job(job, pipe.send, stop)
    finally:
        loop.remove_reader(pipe.fileno())


async def run_job(job: Job, send: Callable[[News], None], stop: asyncio.Event) -> None:
    """Hold all conversations of a job and send news every `REPORT_EVERY_S`, the last one with `is_last`."""
    loop = asyncio.get_running_loop()
    start_s = loop.time() + job.starts_at - time.time()
    ends_s = float("inf") if job.duration_s is None else start_s + job.duration_s
    records: list[TurnRecord] = []
    callers: dict[asyncio.Task[None], Caller] = {}
    watch = SelfWatch(clock=loop.time)

    def news(*, is_last: bool = False) -> News:
        ended, records[:] = list(records), []
        replies = sum(caller.is_listening for caller in callers.values())
        return News(ended, watch.take(job.worker, loop.time() - start_s, len(callers), replies), is_last)

    async def report() -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            send(news())

    async def arrive() -> None:
        for planned in job.plan:
            await sleep_until(start_s + planned.at_s)
            caller = Caller(
                planned,
                job.target,
                job.questions,
                records.append,
                start_s=start_s,
                ends_s=ends_s,
                worker=job.worker,
                buffer_s=job.buffer_s,
                patience_s=job.patience_s,
            )
            task = asyncio.create_task(caller.run())
            callers[task] = caller
            task.add_done_callback(callers.pop)
        if job.duration_s is not None:
            await sleep_until(ends_s)
        while callers:
            await asyncio.wait(callers)

    async def hold() -> None:
        limit_s = None if job.duration_s is None else ends_s + job.grace_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(limit_s):
                await arrive()

    watching, reporting = asyncio.create_task(watch.run()), asyncio.create_task(report())
    holding, stopping = asyncio.create_task(hold()), asyncio.create_task(stop.wait())
    await asyncio.wait((holding, stopping, reporting), return_when=asyncio.FIRST_COMPLETED)
    left = [holding, stopping, reporting, watching, *callers]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    send(news(is_last=True))
