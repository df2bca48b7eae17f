"""`python -m bench.capacity`: the capacity model. docs/capacity.md says what it found.

validate    compare the simulation with measurements of the real stack (bench/capacity/measured)
plan        how many GPUs, gateways and servers of the store, and what they cost, from a file of assumptions
simulate    one run: arrivals at random, as a ramp or recorded, on some replicas
events      what losing a zone does, and what autoscaling must foresee
measure     make a measurement: it needs this machine for itself
fit         fit the simulation to the measurements again
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bench.capacity import events, tables, validation
from bench.capacity.arrivals import drawn, recorded
from bench.capacity.assumptions import DEFAULT_FILE, Assumptions, BadAssumptions, read_assumptions
from bench.capacity.cells import Cell, find_cells, workload
from bench.capacity.gpus import REFERENCE, step_times
from bench.capacity.measure import ROOT, Load, measure
from bench.capacity.simulation.run import Scenario, simulate
from bench.capacity.sizing import foresee, install
from chroma_voice.errors import ChromaError
from services.runtime.checkpoint.quantized import WeightFormat

LIVE = (1_000, 100_000, 1_000_000)
WEIGHTS: tuple[WeightFormat, ...] = ("as-stored", "int8")
EVENT_LOADS = (0.5, 0.65, 0.8)
EVENT_TARGETS = (0.7, 0.5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 1 for input that cannot be used, or a comparison that misses its aim."""
    options = _parser().parse_args(arguments)
    console = Console(soft_wrap=True)
    try:
        return options.run(options, console)
    except (BadAssumptions, ChromaError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _validate(options: argparse.Namespace, console: Console) -> int:
    fit = validation.read_fit(options.measured)
    console.print(tables.fit_table(fit))
    compared = [
        each
        for name in (*validation.FITTED, *validation.PREDICTED)
        for each in validation.compare(name, fit, options.measured, options.seeds)
    ]
    console.print(tables.comparison_table(compared))
    _plots(options, "validation", compared)
    missed = [each for each in compared if not each.is_met]
    console.print(f"{len(compared) - len(missed)} of {len(compared)} figures are within {validation.AIM:.0%}")
    return 1 if missed else 0


def _fit(options: argparse.Namespace, console: Console) -> int:
    fit = validation.find_fit(options.measured)
    (options.measured / "fit.json").write_text(json.dumps(asdict(fit), indent=1) + "\n", encoding="utf-8")
    console.print(tables.fit_table(fit))
    return 0


def _plan(options: argparse.Namespace, console: Console) -> int:
    assumptions = read_assumptions(options.assumptions)
    gpus = tuple(options.gpu or assumptions.gpus)
    if unknown := [gpu for gpu in gpus if gpu not in assumptions.gpus]:
        raise ValueError(f"{unknown[0]} is not among the GPUs of {options.assumptions}: {', '.join(assumptions.gpus)}")
    if min(options.live) < 1:
        raise ValueError(f"--live: expected 1 conversation or more, got {min(options.live)}")
    cells = list(find_cells(assumptions, gpus, tuple(options.weights), options.processes))
    console.print(tables.cell_table(assumptions, cells))
    for live in options.live:
        installations = [install(assumptions, cell, live) for cell in cells if cell.live]
        console.print(tables.installation_table(live, installations))
    console.print(tables.store_table(assumptions, options.live))
    if cells:
        console.print(tables.foresight_table(_foresights(assumptions, cells[0])))
    _plots(options, "gpus", cells)
    return 0


def _simulate(options: argparse.Namespace, console: Console) -> int:
    assumptions = read_assumptions(options.assumptions)
    talk = assumptions.talk
    if options.replicas < 1:
        raise ValueError(f"--replicas: expected 1 or more, got {options.replicas}")
    if options.gpu not in assumptions.gpus:
        raise ValueError(f"{options.gpu} is not among the GPUs of {options.assumptions}")
    if options.recorded is not None:
        plan = recorded(talk, options.recorded)
    else:
        to_rate = options.rate if options.ramp_to is None else options.ramp_to
        plan = drawn(talk, options.rate, to_rate, options.seconds, options.seed)
    zones = tuple(number % assumptions.zones.count for number in range(options.replicas))
    times = step_times(assumptions, options.gpu, options.weights)
    scenario = Scenario(times, workload(talk), options.seconds, zones, seed=options.seed)
    console.print(tables.run_table(simulate(scenario, plan, warm_up_s=options.warm_up)))
    return 0


def _foresights(assumptions: Assumptions, cell: Cell) -> dict[str, object]:
    return {
        "a node is there": foresee(assumptions, cell, with_node=False),
        "a node must be rented": foresee(assumptions, cell, with_node=True),
    }


def _events(options: argparse.Namespace, console: Console) -> int:
    assumptions = read_assumptions(options.assumptions)
    scaling = assumptions.scaling
    cold_start_s = scaling.pod_start_s + scaling.warm_up_s + 10.0
    lost = [events.zone_loss(assumptions, "as-stored", load, cold_start_s) for load in EVENT_LOADS]
    grown = [
        events.growth(assumptions, "as-stored", wait_s, target=target)
        for target in EVENT_TARGETS
        for wait_s in (cold_start_s, cold_start_s + scaling.node_start_s)
    ]
    console.print(tables.course_table("A zone of three is lost", lost))
    console.print(tables.course_table("Load grows to three times within 5 minutes", grown))
    _plots(options, "events", (lost, grown))
    return 0


def _measure(options: argparse.Namespace, console: Console) -> int:
    if options.widths:
        from bench.capacity.widths import growth_share, measure_widths
        from services.runtime.checkpoint.checkpoint import Checkpoint

        costs = measure_widths(Checkpoint.open(ROOT / "models" / "chroma-nano"), options.threads)
        found: dict[str, object] = {
            "threads": options.threads,
            "ms": costs,
            "shares": {kind: growth_share(each) for kind, each in costs.items()},
        }
        options.out.write_text(tables.compact_json(found), encoding="utf-8")
        return 0
    loads = {f"rate-{rate:g}": Load(rate, options.seconds, options.slots) for rate in options.rate}
    for name, found in measure(loads).items():
        path = options.out if len(loads) == 1 else options.out.with_name(f"{options.out.stem}-{name}.json")
        path.write_text(tables.compact_json(found), encoding="utf-8")
        console.print(f"written: {path}")
    return 0


def _plots(options: argparse.Namespace, name: str, content: object) -> None:
    if options.plot is None:
        return
    from bench.capacity import plots  # matplotlib takes a second to import

    getattr(plots, f"plot_{name}")(content, options.plot)
    print(f"written: {options.plot}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)

    def command(name: str, run: object) -> argparse.ArgumentParser:
        made = commands.add_parser(name)
        made.set_defaults(run=run, plot=None)
        return made

    for name, run in (("validate", _validate), ("fit", _fit)):
        made = command(name, run)
        made.add_argument("--measured", type=Path, default=validation.MEASURED, help="folder of measurements")
        if name == "validate":
            made.add_argument("--seeds", type=int, default=validation.SEEDS)
            made.add_argument("--plot", type=Path)
    for name, run in (("plan", _plan), ("events", _events), ("simulate", _simulate)):
        made = command(name, run)
        made.add_argument("--assumptions", type=Path, default=DEFAULT_FILE)
        if run is not _simulate:
            made.add_argument("--plot", type=Path)
    plan = commands.choices["plan"]
    plan.add_argument("--gpu", action="append", help=f"a kind of GPU, such as {REFERENCE}; default: all of the file")
    plan.add_argument("--weights", nargs="+", choices=WEIGHTS, default=WEIGHTS)
    plan.add_argument("--live", type=int, nargs="+", default=LIVE, help="live conversations")
    plan.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    run = commands.choices["simulate"]
    run.add_argument("--gpu", default=REFERENCE)
    run.add_argument("--weights", choices=WEIGHTS, default=WEIGHTS[0])
    run.add_argument("--replicas", type=int, default=1, help="GPUs, each with all three services")
    run.add_argument("--rate", type=float, default=3.0, help="conversations a second")
    run.add_argument("--ramp-to", type=float, help="the rate goes evenly from --rate to this one")
    run.add_argument("--recorded", type=Path, help="a plan as `chroma-voice bench` reads and writes it")
    run.add_argument("--seconds", type=float, default=180.0)
    run.add_argument("--warm-up", type=float, default=60.0, help="seconds at the start that do not count")
    run.add_argument("--seed", type=int, default=0)
    made = command("measure", _measure)
    made.add_argument("out", type=Path)
    made.add_argument(
        "--rate", type=float, nargs="+", default=[0.3], help="conversations a second; several: one after the other"
    )
    made.add_argument("--seconds", type=float, default=380.0)
    made.add_argument("--slots", type=int, default=3)
    made.add_argument("--widths", action="store_true", help="only step times by width, in this process")
    made.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
