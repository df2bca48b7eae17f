"""The command behind `chroma-voice checkpoint`: describes a checkpoint, makes one with random
weights, or quantises one.

    python -m checkpoints inspect PATH
    python -m checkpoints new PRESET DIR [--seed N] [--dtype float32|bfloat16] [--endless]
    python -m checkpoints quantize SOURCE DIR [--weights int8|int4] [--group-size N]

`inspect` exits with 1 when a tensor is missing or has a wrong shape. An error of any command exits with 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from checkpoints.presets import PRESETS
from checkpoints.quantizer import source_size_bytes, write_quantized
from checkpoints.report import CheckpointReport, inspect_checkpoint
from checkpoints.writer import checkpoint_size_bytes, write_checkpoint
from services.common.errors import ChromaError
from services.runtime.checkpoint.checkpoint import Checkpoint

LISTED_NAMES = 20
"""A longer list of names is cut to this many names and the number of the others."""


_COLUMNS = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    console = Console()
    options = _parser().parse_args(arguments)
    try:
        if options.command == "inspect":
            return _inspect(options.path, console)
        if options.command == "quantize":
            return _quantize(options, console)
        return _new(options, console)
    except ChromaError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True, highlight=False)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chroma-voice checkpoint", description="Look at a checkpoint, or make one.")
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="print parts, parameters, bytes, missing and unexpected names")
    inspect.add_argument("path", help="folder or hub id")
    new = commands.add_parser("new", help="write a checkpoint with seeded random weights")
    new.add_argument("preset", choices=PRESETS)
    new.add_argument("dir", type=Path, help="new or empty folder")
    new.add_argument("--seed", type=int, default=0)
    new.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    new.add_argument("--endless", action="store_true", help="weights that end no turn by themselves: for benchmarks")
    quantizing = commands.add_parser("quantize", help="write a checkpoint again with its linear layers in fewer bits")
    quantizing.add_argument("source", help="folder or hub id")
    quantizing.add_argument("dir", type=Path, help="new or empty folder")
    quantizing.add_argument("--weights", choices=("int8", "int4"), default="int8")
    quantizing.add_argument("--group-size", type=int, default=0, help="inputs that share a scale in int4; 0: automatic")
    return parser


def _inspect(source: str, console: Console) -> int:
    checkpoint = Checkpoint.open(source)
    report = inspect_checkpoint(checkpoint)
    title = f"{escape(str(checkpoint.path))}, fingerprint {checkpoint.fingerprint}"
    if checkpoint.quantization is not None:
        weights = checkpoint.quantization.format
        title += f"\nweights {weights}, fingerprint {checkpoint.weights_fingerprint(weights)}"
    table = Table(title=title)
    table.add_column("part")
    table.add_column("stored as")
    for column in ("tensors", "parameters", "bytes"):
        table.add_column(column, justify="right")
    for part in report.parts:
        table.add_row(
            part.name, ", ".join(part.dtypes), f"{part.tensors:,}", f"{part.parameters:,}", f"{part.size_bytes:,}"
        )
    table.add_section()
    tensors, parameters, size_bytes = (
        sum(getattr(part, field) for part in report.parts) for field in ("tensors", "parameters", "size_bytes")
    )
    table.add_row("all", "", f"{tensors:,}", f"{parameters:,}", f"{size_bytes:,}")
    console.print(table)
    _print_differences(report, console)
    return 0 if report.is_servable else 1


def _print_differences(report: CheckpointReport, console: Console) -> None:
    wrong_shape = [
        f"{name}: expected {list(expected)}, found {list(found)}" for name, expected, found in report.wrong_shape
    ]
    for title, lines in (
        ("missing", report.missing),
        ("wrong shape", wrong_shape),
        ("unexpected", report.unexpected),
    ):
        console.print(f"{title}: {len(lines) or 'none'}")
        for line in lines[:LISTED_NAMES]:
            console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
        if len(lines) > LISTED_NAMES:
            console.print(f"  and {len(lines) - LISTED_NAMES} more")


def _quantize(options: argparse.Namespace, console: Console) -> int:
    source = Checkpoint.open(options.source)
    with Progress(*_COLUMNS, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(f"quantising to {options.weights}", total=source_size_bytes(source))
        write_quantized(
            source,
            options.dir,
            bits=8 if options.weights == "int8" else 4,
            group_size=options.group_size,
            progress=lambda read_bytes: progress.advance(task, read_bytes),
        )
    console.print(f"{escape(str(options.dir))}: {source.fingerprint} in {options.weights}", soft_wrap=True)
    return 0


def _new(options: argparse.Namespace, console: Console) -> int:
    with Progress(*_COLUMNS, TimeRemainingColumn(), console=console) as progress:
        size_bytes = checkpoint_size_bytes(options.preset, options.dtype)
        task = progress.add_task(f"writing {options.preset}", total=size_bytes)
        origin = write_checkpoint(
            options.preset,
            options.dir,
            seed=options.seed,
            dtype=options.dtype,
            endless=options.endless,
            progress=lambda written_bytes: progress.advance(task, written_bytes),
        )
    written = f"{escape(str(options.dir))}: random weights, seed {options.seed}; vocabulary: {origin}"
    console.print(written, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
