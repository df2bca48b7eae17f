"""`chroma-voice bench`: how many spoken conversations a server can hold, as its users hear it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from chroma_voice.cli.gateway_address import GatewayOptions, calls_gateway
from chroma_voice.cli.load.options import LoadOptions
from chroma_voice.errors import FailedPrecondition

NEEDS = ("jinja2", "matplotlib", "prometheus_client", "soxr", "websockets")
"""Packages of the extra `bench`, which other commands do without."""

Url = Annotated[
    str, typer.Option(help="URL of a Realtime API, such as ws://host:8080/v1/realtime. It means --realtime.")
]
Realtime = Annotated[
    bool, typer.Option("--realtime", help="Talk over the Realtime API of the launcher in --state, and not over gRPC.")
]
Model = Annotated[str, typer.Option(help="Model in the query of the Realtime API's URL, which some servers want.")]
Beta = Annotated[bool, typer.Option("--beta", help="Session settings of the Realtime API's beta, for older servers.")]
Rate = Annotated[float, typer.Option(min=0.0, help="Conversations that arrive a second, on average.")]
RampTo = Annotated[
    float | None, typer.Option(min=0.0, help="The rate rises (or falls) evenly from --rate to this one.")
]
Recorded = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Arrivals from a file of JSON lines (docs/bench.md).")
]
Duration = Annotated[
    float | None, typer.Option(min=1.0, help="Seconds in which turns begin. Default: 60, or all of --recorded.")
]
WarmUp = Annotated[float, typer.Option(min=0.0, help="Seconds at the start whose turns do not count.")]
MinTurns = Annotated[int, typer.Option(min=1, help="Turns of a conversation, at least.")]
MaxTurns = Annotated[int, typer.Option(min=1, help="Turns of a conversation, at most.")]
Think = Annotated[float, typer.Option(min=0.0, help="Mean pause of the user after a reply, in seconds.")]
BargeIn = Annotated[float, typer.Option(min=0.0, max=1.0, help="Probability that the user interrupts a reply.")]
HandsFree = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Share of conversations with an open microphone and the server's turn detection."
    ),
]
Voices = Annotated[
    list[str] | None,
    typer.Option("--voice", help="Voice to use; several are mixed evenly. Default: all, or the server's own."),
]
Questions = Annotated[
    list[Path] | None,
    typer.Option(
        "--question", exists=True, help="Audio file with a question, or a folder of them. Default: the samples."
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same conversations again.")]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes. One uses one core at most.")]
Buffer = Annotated[float, typer.Option(min=0.0, help="Milliseconds that the player waits after the first sound.")]
Patience = Annotated[
    float, typer.Option(min=1.0, help="Seconds without any event after which a reply counts as failed.")
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        help="Prometheus page of the server, to show beside ours. Default: the launcher's gateway in --state."
    ),
]
Out = Annotated[
    Path, typer.Option(file_okay=False, help="Folder for the results; each run makes a folder of its own in it.")
]
FindCapacity = Annotated[
    bool,
    typer.Option(
        "--find-capacity", help="Search the highest rate that meets the objective. --duration is of each trial."
    ),
]
ObjectiveMs = Annotated[float, typer.Option(min=1.0, help="Objective: 95 % of first sounds within these milliseconds.")]
ObjectiveUnderruns = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Objective: the share of turns with underruns is below this.")
]
Store = Annotated[bool, typer.Option("--store/--no-store", help="Whether a chroma-voice keeps the conversations.")]


@calls_gateway
def bench(
    gateway: GatewayOptions,
    url: Url = "",
    realtime: Realtime = False,
    model: Model = "",
    beta: Beta = False,
    rate: Rate = 0.2,
    ramp_to: RampTo = None,
    recorded: Recorded = None,
    duration: Duration = None,
    warm_up: WarmUp = 0.0,
    min_turns: MinTurns = 1,
    max_turns: MaxTurns = 3,
    think: Think = 1.5,
    barge_in: BargeIn = 0.1,
    hands_free: HandsFree = 0.0,
    voice: Voices = None,
    question: Questions = None,
    seed: Seed = 0,
    workers: Workers = 1,
    buffer_ms: Buffer = 0.0,
    patience: Patience = 30.0,
    metrics: Metrics = None,
    out: Out = Path("bench-results"),
    find_capacity: FindCapacity = False,
    objective_ms: ObjectiveMs = 300.0,
    objective_underruns: ObjectiveUnderruns = 0.001,
    store: Store = True,
) -> None:
    """Call a server like many users at once, and measure what they hear.

    Conversations arrive whether or not the server keeps up. Waits are counted from the planned end of each question.
    At the end there are a table, a JSON file and a report for the browser.
    """
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise FailedPrecondition(
            f"the extra `bench` is not installed (no {missing[0]}): pip install 'chroma-voice[bench]'"
        )
    # Other commands start without these packages.
    from chroma_voice.cli.load.bench_run import start

    start(
        gateway,
        LoadOptions(
            url=url,
            realtime=realtime,
            model=model,
            beta=beta,
            rate=rate,
            ramp_to=ramp_to,
            recorded=recorded,
            duration_s=duration,
            warm_up_s=warm_up,
            min_turns=min_turns,
            max_turns=max(min_turns, max_turns),
            think_s=think,
            barge_in=barge_in,
            hands_free=hands_free,
            voices=tuple(voice or ()),
            questions=tuple(question or ()),
            seed=seed,
            workers=workers,
            buffer_s=buffer_ms / 1e3,
            patience_s=patience,
            metrics=None if metrics is None else tuple(metrics),
            out=out,
            find_capacity=find_capacity,
            objective_s=objective_ms / 1e3,
            objective_underruns=objective_underruns,
            store=store,
        ),
    )
