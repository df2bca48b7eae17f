"""Runs the load of `chroma-voice bench`, shows it, and writes its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import typer
from rich.console import Console

from chroma_voice.bench import server_metrics
from chroma_voice.bench.capacity import Capacity, Objective, Trial, find_capacity
from chroma_voice.bench.load.arrivals import ramp
from chroma_voice.bench.load.plan import Mix, PlannedConversation, Question
from chroma_voice.bench.load.recorded import read_plan, write_plan
from chroma_voice.bench.report.page import render
from chroma_voice.bench.report.results import Results
from chroma_voice.bench.report.tables import capacity_line, facts
from chroma_voice.bench.run import INTERRUPTED, Load, Measured, run
from chroma_voice.bench.self_watch import bottlenecks
from chroma_voice.bench.summary import Summary, summarise
from chroma_voice.cli.gateway_address import GatewayOptions
from chroma_voice.cli.load.options import DEFAULT_DURATION_S, LoadOptions
from chroma_voice.cli.load.questions import read_questions
from chroma_voice.cli.load.screen import RunScreen
from chroma_voice.cli.load.tables import capacity_table, result_table
from chroma_voice.cli.load.target_options import choose_target, default_metrics, probe, voices_to_use
from chroma_voice.cli.result_folder import new_folder
from chroma_voice.errors import ChromaError, FailedPrecondition, InvalidArgument, Unavailable


def start(gateway: GatewayOptions, options: LoadOptions) -> None:
    """Look whether the server can be called, then run the load. Raises a `ChromaError` in one line when it cannot."""
    questions = read_questions(options.questions)
    target = choose_target(gateway, options)
    voices = voices_to_use(options.voices, probe(target))
    metrics = options.metrics if options.metrics is not None else default_metrics(gateway, options)
    urls = tuple(map(metrics_url, metrics))
    for url in urls:
        server_metrics.read(url)
    mix = Mix(
        voices=tuple(voices),
        questions=len(questions),
        min_turns=options.min_turns,
        max_turns=options.max_turns,
        think_s=options.think_s,
        barge_in=options.barge_in,
        hands_free=options.hands_free,
        seed=options.seed,
    )
    load = Load(
        target=target,
        plan=[] if options.find_capacity else _plan(options, mix, questions),
        questions=questions,
        duration_s=options.seconds,
        workers=options.workers,
        buffer_s=options.buffer_s,
        patience_s=options.patience_s,
        metrics=urls,
    )
    settings = options.described() | {
        "voices": ", ".join(voices),
        "questions": ", ".join(f"{each.name} ({each.duration_s:.2f} s)" for each in questions),
    }
    bench = Bench(load, settings, options.warm_up_s, Console(soft_wrap=True), new_folder(options.out))
    if options.find_capacity:
        bench.search(mix, options.rate, Objective(options.objective_s, max_underruns=options.objective_underruns))
    else:
        bench.once()


def _plan(options: LoadOptions, mix: Mix, questions: list[Question]) -> list[PlannedConversation]:
    if options.recorded:
        return read_plan(options.recorded, mix, questions)
    to_rate = options.rate if options.ramp_to is None else options.ramp_to
    plan = mix.conversations(ramp(options.rate, to_rate, options.seconds or DEFAULT_DURATION_S, options.seed))
    if not plan:
        raise InvalidArgument("no conversation arrives: give a higher --rate, a longer --duration or another --seed")
    return plan


class Bench:
    """Runs a load, shows it, and writes its results into `folder`."""

    def __init__(
        self, load: Load, settings: Mapping[str, object], warm_up_s: float, console: Console, folder: Path
    ) -> None:
        self._load = load
        self._settings = settings
        self._warm_up_s = warm_up_s
        self._console = console
        self._folder = folder

    def once(self) -> None:
        """Run the plan and write its results. Raises the error of a run that broke off, when they are written."""
        if not self._load.plan:
            raise InvalidArgument(
                "no conversation arrives: give a higher --rate, a longer --duration or another --seed"
            )
        measured, summary = self._run(self._load, self._load.target.name)
        self._console.print(result_table(summary, self._load.target.name))
        for line in facts(summary):
            self._console.print(line, markup=False, highlight=False)
        self._finish(measured, summary, None)

    def search(self, mix: Mix, from_rate: float, objective: Objective) -> None:
        """Search the highest rate, and write its results with those of the last trial at that rate."""
        best: dict[float, tuple[Measured, Summary]] = {}
        duration_s = self._load.duration_s or DEFAULT_DURATION_S

        def attempt(rate: float) -> Trial:
            drawn = replace(mix, seed=mix.seed + len(best))
            plan = drawn.conversations(ramp(rate, rate, duration_s, drawn.seed))
            title = f"trial {len(best) + 1}: {rate:.3g} conversations a second"
            measured, summary = self._run(replace(self._load, plan=plan), title)
            best[rate] = measured, summary
            misses = tuple(objective.misses(summary))
            # A late load generator makes figures worse, never better: an objective that is met all the same is met.
            own = "the load generator was itself the bottleneck" if misses and bottlenecks(measured.health) else ""
            trial = Trial(rate, misses, summary, measured.broken or own)
            self._console.print(f"{title}, {summary.turns} turns: {trial.verdict}", markup=False, highlight=False)
            return trial

        capacity = find_capacity(attempt, objective, from_rate=from_rate)
        self._console.print(capacity_table(capacity))
        line = capacity_line(capacity)
        if capacity.rate is not None:
            self._console.print(line, markup=False, highlight=False)
        measured, summary = best[capacity.shown.rate]
        measured.broken = best[capacity.trials[-1].rate][0].broken
        self._finish(measured, summary, capacity)
        if capacity.rate is None:
            raise FailedPrecondition(line)

    def _run(self, load: Load, title: str) -> tuple[Measured, Summary]:
        with RunScreen(self._console, title, load.duration_s) as screen:
            measured = run(load, screen.show, self._folder / "turns.jsonl")
        seconds = measured.elapsed_s
        return measured, summarise(measured.turns, measured.health, warm_up_s=self._warm_up_s, seconds=seconds)

    def _finish(self, measured: Measured, summary: Summary, capacity: Capacity | None) -> None:
        """Write the results and say where they are. A run that broke off, or had no reply at all, is an error."""
        notes = bottlenecks(measured.health)
        for note in notes:
            self._console.print(f"warning: {note}", style="yellow", markup=False, highlight=False)
        if self._load.plan:
            write_plan(self._folder / "plan.jsonl", self._load.plan, self._load.questions)
        results = Results(self._load.target.name, self._settings, measured, summary, notes, capacity, self._warm_up_s)
        for name, text in (("bench.json", results.to_json()), ("bench.html", render(results))):
            (self._folder / name).write_text(text, encoding="utf-8")
            self._console.print(str(self._folder / name), markup=False, highlight=False)
        if measured.broken.startswith(INTERRUPTED):
            self._console.print(f"{measured.broken}: the results are partial", markup=False, highlight=False)
            raise typer.Exit(130)
        if measured.broken:
            raise Unavailable(f"{measured.broken}; the results until then are in {self._folder}")
        if not summary.completed + summary.interrupted:
            status, message = next(iter(summary.messages.items()), ("NO_REPLY", "no turn ended"))
            raise ChromaError(f"no turn had a reply: {message or status}", status=status)


def metrics_url(text: str) -> str:
    """Return the URL of a page of metrics: `host:port` means `/metrics` there."""
    url = text if "://" in text else f"http://{text}"
    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/metrics"
