"""The metrics of several processes as one page."""

from __future__ import annotations

import json
import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from services.common.telemetry import metrics
from services.common.telemetry.merged_metrics import Families, MergedMetrics, families, lasting
from services.common.telemetry.metrics import Definition, Merge


class Process:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.turns = Counter("chroma_voice_turns", "Turns.", ["outcome"], registry=self.registry)
        self.seconds = Histogram("chroma_voice_seconds", "Seconds.", buckets=(1, 2), registry=self.registry)
        self.open = Gauge("chroma_voice_open", "Open.", registry=self.registry)
        self.serving = Gauge("chroma_voice_lowest", "Lowest.", registry=self.registry)
        self.known = Gauge("chroma_voice_highest", "Highest.", registry=self.registry)

    def told(self) -> Families:
        """As the supervisor gets them."""
        return json.loads(json.dumps(families(self.registry)))


@pytest.fixture(autouse=True)
def definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    merges: dict[str, Merge] = {"chroma_voice_lowest": "min", "chroma_voice_highest": "max"}
    for name, merge in merges.items():
        monkeypatch.setitem(metrics.DEFINITIONS, name, Definition(name, "gauge", "", (), merge=merge))


def merged(*processes: Families) -> CollectorRegistry:
    """The registry of the page."""
    registry = CollectorRegistry()
    registry.register(MergedMetrics(lambda: processes))
    return registry


def two() -> tuple[Process, Process]:
    one, other = Process(), Process()
    one.turns.labels("completed").inc(2)
    other.turns.labels("completed").inc(3)
    other.turns.labels("failed").inc()
    one.seconds.observe(0.5)
    other.seconds.observe(1.5)
    for process, value in ((one, 1), (other, 4)):
        for gauge in (process.open, process.serving, process.known):
            gauge.set(value)
    return one, other


def test_counters_histograms_and_plain_gauges_are_sums() -> None:
    one, other = two()
    page = merged(one.told(), other.told())
    assert page.get_sample_value("chroma_voice_turns_total", {"outcome": "completed"}) == 5
    assert page.get_sample_value("chroma_voice_turns_total", {"outcome": "failed"}) == 1
    assert page.get_sample_value("chroma_voice_seconds_bucket", {"le": "1.0"}) == 1
    assert page.get_sample_value("chroma_voice_seconds_bucket", {"le": "+Inf"}) == 2
    assert page.get_sample_value("chroma_voice_seconds_sum") == 2
    assert page.get_sample_value("chroma_voice_open") == 5


def test_a_gauge_may_be_the_lowest_or_the_highest_value() -> None:
    one, other = two()
    page = merged(one.told(), other.told())
    assert page.get_sample_value("chroma_voice_lowest") == 1
    assert page.get_sample_value("chroma_voice_highest") == 4


def test_a_value_that_is_not_known_gives_way_to_one_that_is() -> None:
    one, other = two()
    one.serving.set(math.nan)
    one.known.set(math.nan)
    page = merged(one.told(), other.told())
    assert page.get_sample_value("chroma_voice_lowest") == page.get_sample_value("chroma_voice_highest") == 4
    other.known.set(math.nan)
    assert math.isnan(merged(one.told(), other.told()).get_sample_value("chroma_voice_highest") or 0)


def test_the_counts_of_ended_processes_stay_and_their_gauges_do_not() -> None:
    one, other = two()
    ended = lasting(lasting([], one.told()), one.told())
    page = merged(other.told(), ended)
    assert page.get_sample_value("chroma_voice_turns_total", {"outcome": "completed"}) == 3 + 2 + 2
    assert page.get_sample_value("chroma_voice_seconds_count") == 1 + 1 + 1
    assert page.get_sample_value("chroma_voice_open") == 4


def test_the_page_is_that_of_one_process_with_the_sums() -> None:
    one, _ = two()
    assert generate_latest(merged(one.told())) == generate_latest(one.registry)


def test_the_newest_exemplar_is_shown() -> None:
    one, other = two()
    one.seconds.observe(0.5, {"turn_id": "older"})
    other.seconds.observe(0.5, {"turn_id": "newer"})
    page = generate_openmetrics(merged(other.told(), one.told())).decode()
    assert 'turn_id="newer"' in page
    assert "older" not in page


def test_metrics_of_the_library_that_are_no_sums() -> None:
    mine = families(only=("process_max_fds", "process_start", "python_info", "process_cpu"))
    assert {family["name"]: family["merge"] for family in mine} == {
        "process_max_fds": "min",
        "process_start_time_seconds": "min",
        "process_cpu_seconds": "sum",
        "python_info": "max",
    }
