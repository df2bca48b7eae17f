"""Runs `chroma-voice eval`: asks the pairs, measures the replies, shows it, and writes the results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chroma_voice.bench.targets.grpc_target import GrpcTarget
from chroma_voice.cli.evaluation.tables import figure_table, quality_table
from chroma_voice.cli.gateway_address import GatewayOptions
from chroma_voice.cli.load.target_options import grpc_target
from chroma_voice.cli.result_folder import new_folder
from chroma_voice.errors import ChromaError, FailedPrecondition, Unavailable
from chroma_voice.eval.codec import through_codec
from chroma_voice.eval.collect import Asking, Collected, Collector
from chroma_voice.eval.folder import read_folder, sample_pairs
from chroma_voice.eval.instruments import Instruments, judged, load_instruments, vectors_of
from chroma_voice.eval.pairs import PairSet
from chroma_voice.eval.references import Codec, measure_references
from chroma_voice.eval.report.page import render
from chroma_voice.eval.report.results import Results
from chroma_voice.eval.report.tables import facts
from chroma_voice.eval.summary import summarise
from chroma_voice.local.state import StateFolder

CACHE = Path.home() / ".cache" / "chroma-voice" / "whisper-base"
INTERRUPTED = "interrupted"
"""How `Collected.broken` begins after Ctrl-C."""


@dataclass(frozen=True)
class EvalOptions:
    """The values of the options. `chroma-voice eval --help` says what each means."""

    folder: Path | None
    out: Path
    at_once: int
    max_reply_s: float | None
    seed: int
    limit: int
    codec: str
    whisper: Path | None
    patience_s: float


def start(
    gateway: GatewayOptions,
    options: EvalOptions,
    instruments_of: Callable[[Path, Path | None], Instruments] = load_instruments,
) -> None:
    """Evaluate. Raises a `ChromaError` in one line when nothing can be measured, or when the target went away."""
    console = Console(soft_wrap=True)
    pairs = spread(read_folder(options.folder) if options.folder else sample_pairs(), options.limit)
    target = grpc_target(gateway, store=False, silence_s=options.patience_s)
    known = asyncio.run(target.voices())
    _check_voices(pairs, known)
    console.print("loading the recogniser and the speaker encoder", markup=False, highlight=False)
    instruments = instruments_of(CACHE, options.whisper)
    vectors = vectors_of(pairs, instruments.encoder)
    codec = _codec(gateway, options)
    folder = new_folder(options.out)
    started_at = time.time()
    collected = _collect(console, target, pairs, folder, Asking(options.at_once, options.max_reply_s, options.seed))
    if not any(record.is_reply for record in collected.replies):
        raise _no_reply(collected, folder)
    with _bar(console, "judging replies", sum(record.is_reply for record in collected.replies)) as done:
        replies = judged(collected.replies, folder, instruments, vectors, done)
    with _bar(console, "judging recordings", len(pairs.voices)) as done:
        references = asyncio.run(measure_references(pairs, vectors, instruments, codec, done))
    replies.sort(key=lambda record: record.number)
    summary = summarise(len(pairs.pairs), replies, references)
    settings = {
        "recogniser": instruments.recogniser_name,
        "speaker_encoder": instruments.encoder_name,
        "pairs": len(pairs.pairs),
        "voices": ", ".join(sorted({pair.voice for pair in pairs.pairs})[:20]),
        "at_once": options.at_once,
        "max_reply_s": options.max_reply_s,
        "seed": options.seed,
    }
    results = Results(target.name, pairs.name, started_at, settings, replies, references, summary, collected.broken)
    console.print(quality_table(summary, f"{target.name}: {pairs.name}"))
    console.print(figure_table(summary))
    for line in facts(summary):
        console.print(line, markup=False, highlight=False)
    for name, text in (("eval.json", results.to_json()), ("eval.html", render(results, folder))):
        (folder / name).write_text(text, encoding="utf-8")
        console.print(str(folder / name), markup=False, highlight=False)
    if collected.broken.startswith(INTERRUPTED):
        console.print(f"{collected.broken}: the results are partial", markup=False, highlight=False)
        raise typer.Exit(130)
    if collected.broken:
        raise Unavailable(f"{collected.broken}; the results until then are in {folder}")


def spread(pairs: PairSet, limit: int) -> PairSet:
    """Return the set with at most `limit` pairs, evenly spread, and with the voices of these; 0: all pairs."""
    if not 0 < limit < len(pairs.pairs):
        return pairs
    chosen = [pairs.pairs[index * len(pairs.pairs) // limit] for index in range(limit)]
    used = {pair.voice for pair in chosen}
    return replace(pairs, pairs=chosen, voices={name: one for name, one in pairs.voices.items() if name in used})


def _check_voices(pairs: PairSet, known: list[str]) -> None:
    """Raise `FailedPrecondition` for a voice that neither the deployment nor the folder has."""
    for name in sorted({pair.voice for pair in pairs.pairs} - set(known) - set(pairs.voices)):
        there = f"it has {', '.join(known[:20])}" if known else "it has none"
        raise FailedPrecondition(f"no voice {name!r} in the deployment ({there}), and no recording in the folder")


def _codec(gateway: GatewayOptions, options: EvalOptions) -> Codec | None:
    """The codec service: the one of --codec, else the launcher's if its gateway is what is evaluated."""
    if options.codec:
        return partial(through_codec, options.codec)
    return None if gateway.gateway else partial(through_codec, StateFolder(gateway.state).endpoints().codec)


def _collect(console: Console, target: GrpcTarget, pairs: PairSet, folder: Path, asking: Asking) -> Collected:
    """Ask all pairs. What came until Ctrl-C, or until the target went away, is kept."""
    with _bar(console, "asking", len(pairs.pairs)) as done:
        collector = Collector(target, pairs, folder, asking, lambda record: done())
        try:
            asyncio.run(collector.run())
        except KeyboardInterrupt:
            collector.collected.broken = f"{INTERRUPTED} after {len(collector.collected.replies)} pairs"
    return collector.collected


def _no_reply(collected: Collected, folder: Path) -> Exception:
    """The error of a run without any reply."""
    if collected.broken.startswith(INTERRUPTED):
        return typer.Exit(130)
    if not collected.replies or collected.broken:
        return Unavailable(f"{collected.broken or 'no pair was asked'}; nothing could be measured")
    first = collected.replies[0]
    return ChromaError(f"no pair had a reply: {first.message}; see {folder}/replies.jsonl", status=first.status)


@contextmanager
def _bar(console: Console, title: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar. Without a terminal a line says what begins. Yields what to call after each step."""
    if not console.is_terminal:
        console.print(f"{title}: {steps}", markup=False, highlight=False)
        yield lambda: None
        return
    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(title, total=steps)
        yield lambda: bars.advance(task)
