"""Made-up results of a load, for the tests of reports and tables."""

from __future__ import annotations

from chroma_voice.bench.capacity import Capacity, Objective, Trial
from chroma_voice.bench.records import Health, TurnRecord
from chroma_voice.bench.report.results import Results
from chroma_voice.bench.run import Measured
from chroma_voice.bench.server_metrics import Histogram, Scrape
from chroma_voice.bench.summary import Summary, summarise

PAGE = "http://127.0.0.1:9090/metrics"


def turns(count: int = 40) -> list[TurnRecord]:
    """Turns of 40 s, of which every tenth has a gap, and the last one failed."""
    found = [
        TurnRecord(
            conversation=number,
            turn=0,
            worker=0,
            voice="amber",
            hands_free=False,
            question="q.wav",
            question_s=1.0,
            asked_s=number * 40 / count + 0.5,
            outcome="completed",
            connect_s=0.01,
            first_piece_s=0.1 + number * 0.001,
            first_sound_s=0.15 + number * 0.001,
            gaps=[(number * 40 / count + 1.0, 0.2)] if number % 10 == 0 else [],
            ended_s=number * 40 / count + 2.0,
        )
        for number in range(count)
    ]
    found[-1].outcome, found[-1].status, found[-1].message = "failed", "UNAVAILABLE", "<b>gone</b>"
    return found


def scrapes(prefix: str = "chroma_voice_") -> list[Scrape]:
    """Readings of 40 s, one a second."""
    return [
        Scrape(
            float(second),
            {
                f"{prefix}conversations": second % 7,
                f"{prefix}turns_total": second,
                "process_resident_memory_bytes": 1e8,
            },
            {f"{prefix}first_sound_seconds": Histogram({0.1: second, 0.2: 2.0 * second, float("inf"): 2.0 * second})},
        )
        for second in range(40)
    ]


def measured(*, broken: str = "") -> Measured:
    """A run of 40 s."""
    health = [Health(0, second / 4, 0.25, 0.2, 0.002, 0.0, second // 20, 1) for second in range(160)]
    return Measured(1_790_000_000.0, turns(), health, {PAGE: scrapes()}, 40.0, broken)


def summary() -> Summary:
    """The figures of `measured`."""
    run = measured()
    return summarise(run.turns, run.health, warm_up_s=0.0, seconds=run.elapsed_s)


def capacity() -> Capacity:
    """A search of two rates."""
    trials = [Trial(1.0, (), summary()), Trial(2.0, ("p95 of first sound 900 ms > 300 ms",), summary())]
    return Capacity(Objective(), 1.0, "the objective is missed at 2 a second", trials)


def results(found: Capacity | None = None, *, broken: str = "", target: str = "host:1 (gRPC)") -> Results:
    """All of it."""
    settings = {"rate": 1.0, "ramp_to": None, "voices": "amber"}
    return Results(target, settings, measured(broken=broken), summary(), ["worker 0 was late"], found, 0.0)
