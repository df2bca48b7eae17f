"""A run: worker processes hold the conversations of a plan. What they record is kept, also when the run breaks off."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from chroma_voice.bench.load.plan import PlannedConversation, Question
from chroma_voice.bench.records import Health, TurnRecord
from chroma_voice.bench.server_metrics import Scrape, Scraper
from chroma_voice.bench.targets.target import Target
from chroma_voice.bench.worker import Job, News, work
from chroma_voice.errors import ChromaError

LEAD_S = 1.0
"""Time for the workers to start: a process needs about half a second to import its modules."""
PROBES = 3
"""A target that fails so many probes after a lost conversation, a second apart, is gone."""
INTERRUPTED = "interrupted"
"""How `Measured.broken` begins after Ctrl-C."""
GONE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "NO_REPLY")
"""Failures that make the run look whether the target is still there."""


@dataclass(frozen=True)
class Load:
    """What is run. See `Job` for the times."""

    target: Target
    plan: Sequence[PlannedConversation]
    questions: Sequence[Question]
    duration_s: float | None
    workers: int = 1
    grace_s: float = 30.0
    buffer_s: float = 0.0
    patience_s: float = 30.0
    metrics: Sequence[str] = ()
    """URLs of Prometheus pages of the server."""


@dataclass
class Measured:
    """What a run measured. `broken` says in one line why it broke off; empty: it did not."""

    started_at: float
    """Unix time of the start."""
    turns: list[TurnRecord] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    scrapes: dict[str, list[Scrape]] = field(default_factory=dict)
    elapsed_s: float = 0.0
    broken: str = ""

    def open_conversations(self) -> int:
        """Return how many conversations are open now, over all workers."""
        latest = {sample.worker: sample.conversations for sample in self.health}
        return sum(latest.values())


class Watchman:
    """Looks whether the target is still there, after conversations were lost. It probes on a thread."""

    def __init__(self, target: Target, every_s: float = 1.0) -> None:
        self.gone = ""
        """Why the target counts as gone; empty: it does not."""
        self._target = target
        self._every_s = every_s
        self._thread: threading.Thread | None = None

    def note(self, turns: Sequence[TurnRecord]) -> None:
        """Look at the turns that have just ended, and begin to probe if one of them was lost."""
        lost = any(turn.status in GONE for turn in turns)
        if lost and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._probe, daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Wait until a probe under way has its result."""
        if self._thread is not None:
            self._thread.join()

    def _probe(self) -> None:
        told = ""
        for attempt in range(PROBES):
            if attempt:
                time.sleep(self._every_s)
            try:
                asyncio.run(self._target.probe())
                return
            except ChromaError as error:
                if error.status not in GONE:
                    return
                told = error.message
        self.gone = told


def run(
    load: Load, on_news: Callable[[Measured], None] = lambda measured: None, turns_file: Path | None = None
) -> Measured:
    """Run a load. `on_news` is called four times a second or more, with all that was measured so far.

    Each turn's record is appended to `turns_file` when it comes. Ctrl-C ends the run early, and what was measured
    is returned. Raises a `ChromaError` only when a page of metrics cannot be read at the start.
    """
    starts_at = time.time() + LEAD_S
    measured = Measured(starts_at)
    scraper = Scraper(load.metrics, time.monotonic() + LEAD_S)
    measured.scrapes = scraper.scrapes
    scraper.start()
    workers = _start(load, starts_at)
    try:
        _collect(workers, measured, on_news, turns_file, Watchman(load.target))
    finally:
        for process in workers.values():
            process.join(5.0)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in workers:
            pipe.close()
        scraper.stop()
        measured.elapsed_s = max(0.0, time.time() - starts_at)
    return measured


def _start(load: Load, starts_at: float) -> dict[Pipe, BaseProcess]:
    """Start the workers. Conversation n goes to worker n modulo their number."""
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    workers: dict[Pipe, BaseProcess] = {}
    for worker in range(load.workers):
        job = Job(
            worker=worker,
            plan=load.plan[worker :: load.workers],
            questions=load.questions,
            target=load.target,
            starts_at=starts_at,
            duration_s=load.duration_s,
            grace_s=load.grace_s,
            buffer_s=load.buffer_s,
            patience_s=load.patience_s,
        )
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, job), name=f"bench worker {worker}", daemon=True)
        process.start()
        theirs.close()
        workers[ours] = process
    return workers


def _collect(
    workers: dict[Pipe, BaseProcess],
    measured: Measured,
    on_news: Callable[[Measured], None],
    turns_file: Path | None,
    watchman: Watchman,
) -> None:
    """Read the workers' news until each has sent its last, or has died."""
    left = dict(workers)
    stopping = False
    with (turns_file or Path(os.devnull)).open("a", encoding="utf-8") as file:
        while left:
            try:
                for ready in wait(list(left), timeout=0.25):
                    assert isinstance(ready, Pipe), "only pipes are waited for"
                    news = _receive(ready)
                    if news is None:
                        measured.broken = measured.broken or f"{left[ready].name} ended without its results"
                        del left[ready]
                        continue
                    measured.turns += news.turns
                    measured.health.append(news.health)
                    for turn in news.turns:
                        file.write(json.dumps(turn.to_dict(), ensure_ascii=False) + "\n")
                    file.flush()
                    watchman.note(news.turns)
                    if news.is_last:
                        del left[ready]
                measured.elapsed_s = max(0.0, time.time() - measured.started_at)
                on_news(measured)
                if watchman.gone and not stopping:
                    measured.broken = f"the target went away after {measured.elapsed_s:.0f} s: {watchman.gone}"
                    stopping = _stop(left)
            except KeyboardInterrupt:
                if stopping:
                    raise
                measured.broken = f"{INTERRUPTED} after {measured.elapsed_s:.0f} s"
                stopping = _stop(left)
        if not stopping:
            watchman.join()
            if watchman.gone:
                measured.broken = f"the target went away after {measured.elapsed_s:.0f} s: {watchman.gone}"


def _receive(pipe: Pipe) -> News | None:
    """The next news of a worker; None when it has died."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def _stop(pipes: dict[Pipe, BaseProcess]) -> bool:
    """Tell the workers to end now."""
    for pipe in pipes:
        try:
            pipe.send(None)
        except OSError:
            continue  # it has ended by itself
    return True
