"""Tables of the capacity model's results, and its small JSON files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from bench.capacity.assumptions import Assumptions
from bench.capacity.cells import Cell
from bench.capacity.events import Course
from bench.capacity.simulation.run import Figures
from bench.capacity.sizing import Foresight, Installation, live_of_a_tenant, store_servers
from bench.capacity.validation import FITTED, Comparison, Fit

WEIGHT_NAMES = {"as-stored": "bfloat16", "int8": "8 bits", "int4": "4 bits"}


def compact_json(content: Mapping[str, Any]) -> str:
    """JSON with a line for each value, and lists of numbers on one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([\d\s,.-]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def fit_table(fit: Fit) -> Table:
    """The fitted values."""
    table = Table("fitted", "", title="What was fitted")
    table.add_row("time of a message between two processes", f"{fit.hop_s * 1e3:.2f} ms")
    table.add_row("cores' worth of steps that run at once", f"{fit.cores:.2f}")
    table.add_row("coefficient of variation of a step", f"{fit.spread:.2f}")
    return table


def comparison_table(compared: Sequence[Comparison]) -> Table:
    """Measured and simulated figures."""
    table = Table("load", "used for the fit", "figure", "measured", "95 % interval", "simulated", "error")
    for each in compared:
        table.add_row(
            each.load,
            "yes" if each.load in FITTED else "no",
            each.name,
            f"{each.measured:.1f}",
            f"{each.low:.1f} to {each.high:.1f}",
            f"{each.simulated:.1f}",
            f"{each.error:+.0%}{'' if each.is_met else ' MISSED'}",
        )
    return table


def cell_table(assumptions: Assumptions, cells: Sequence[Cell]) -> Table:
    """What each kind of GPU holds."""
    objective = assumptions.objective
    title = (
        f"Live conversations that one GPU holds (computed): 95 % of first sounds within "
        f"{objective.first_sound_p95_s * 1e3:.0f} ms, at most {objective.max_refused:.1%} refused"
    )
    columns = (
        "GPU",
        "weights",
        "slots",
        "live",
        "what limits it",
        "first sound p50, p95",
        "busy: reasoner, speech, codec",
    )
    table = Table(*columns, title=title)
    for cell in cells:
        table.add_row(
            cell.gpu,
            WEIGHT_NAMES[cell.weights],
            str(cell.slots),
            str(cell.live),
            cell.limit,
            f"{cell.first_sound_p50_s * 1e3:.0f}, {cell.first_sound_p95_s * 1e3:.0f} ms",
            ", ".join(f"{share:.0%}" for share in cell.busy.values()),
        )
    return table


def installation_table(live: int, installations: Sequence[Installation]) -> Table:
    """What so many conversations need."""
    title = f"{live:,} live conversations (computed; prices are inputs)"
    columns = ("GPU", "weights", "GPUs", "with a reserve for a zone", "gateway cores", "store servers", "cost an hour")
    table = Table(*columns, "cost an hour of talk", title=title)
    for each in installations:
        table.add_row(
            each.cell.gpu,
            WEIGHT_NAMES[each.cell.weights],
            f"{each.gpus:,}",
            f"{each.gpus_with_zone:,}",
            f"{each.gateway_cores:,}",
            f"{each.store_servers:,} ({each.store_limit})",
            f"{each.cost_per_hour:,.0f}",
            f"{each.cost_per_talk_hour:.4f}",
        )
    return table


def run_table(figures: Figures) -> Table:
    """What came of one simulated run."""
    table = Table("figure", "", title="A simulated run")
    table.add_row("live conversations, on average", f"{figures.mean_live:.0f}")
    table.add_row("turns", f"{figures.turns:,}")
    table.add_row("refused", f"{figures.refused_share:.2%} {figures.refused_by or ''}")
    for percent in (50.0, 95.0, 99.0):
        sound_s = figures.first_sound_s(percent)
        table.add_row(f"first sound p{percent:g}", "none" if sound_s is None else f"{sound_s * 1e3:.0f} ms")
    table.add_row("turns with gaps", f"{figures.with_gaps / max(figures.turns, 1):.2%}")
    table.add_row("busy", ", ".join(f"{name} {share:.0%}" for name, share in figures.busy.items()))
    return table


def store_table(assumptions: Assumptions, lives: Sequence[int]) -> Table:
    """What the store carries, and how large one tenant may be."""
    store, turn_s = assumptions.store, assumptions.talk.turn_s
    title = f"Store (computed): one tenant holds at most {live_of_a_tenant(assumptions):,} live conversations"
    table = Table("live", "turns a second", "commands a second", "sessions, GB", "primaries", title=title)
    for live in lives:
        servers, limit = store_servers(assumptions, live)
        table.add_row(
            f"{live:,}",
            f"{live / turn_s:,.0f}",
            f"{live / turn_s * store.commands_per_turn:,.0f}",
            f"{live * store.sessions_per_live * store.bytes_per_session / 1e9:,.0f}",
            f"{servers:,} ({limit})",
        )
    return table


def foresight_table(foresights: Mapping[str, Any]) -> Table:
    """What an autoscaler must foresee."""
    columns = ("", "cold start", "growth to first turn", "headroom needed", "highest target")
    table = Table(*columns, title="What autoscaling must foresee (computed)")
    for name, each in foresights.items():
        assert isinstance(each, Foresight)
        cold_start_s = each.cold_start_s if name == "a node is there" else each.cold_start_with_node_s
        table.add_row(
            name, f"{cold_start_s:.0f} s", f"{each.delay_s:.0f} s", f"{each.headroom:.0%}", f"{each.target:.0%}"
        )
    return table


def course_table(title: str, courses: Sequence[Course]) -> Table:
    """What became of the turns over time."""
    table = Table("", "turns lost at once", "refused in the worst 30 s", "refusals of over 1 % last", title=title)
    for course in courses:
        table.add_row(
            course.name,
            f"{max(course.lost):.0%}",
            f"{course.worst:.0%}",
            f"{course.refused_for_s():.0f} s",
        )
    return table
