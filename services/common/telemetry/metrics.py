"""How metrics are defined, and the Prometheus page that shows them.

Every metric of the product is defined by one of the four functions here, so that names begin with `chroma_voice_`,
units are seconds and bytes, and docs/metrics.md can list them all. Labels are bounded sets: never an id, never text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from services.common.settings import Address, split_address

PREFIX = "chroma_voice_"

LATENCY_BUCKETS_S = (
    0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0,
)  # fmt: skip
"""For latencies that a user notices: from one step of a small model to 10 s."""

prometheus_client.disable_created_metrics()


Merge = Literal["sum", "min", "max"]


@dataclass(frozen=True)
class Definition:
    """What the reference page says of a metric. `name` is the one that queries use: a counter's ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    merge: Merge = "sum"
    """How the values of several processes become one."""


DEFINITIONS: dict[str, Definition] = {}
"""All metrics defined by the modules imported so far, by name."""


class ScrapedCounter(Collector):
    """A counter whose values are kept elsewhere, as plain numbers, and read when Prometheus asks."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str]) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = tuple(labels)
        self._reads: dict[tuple[str, ...], Callable[[], float]] = {}

    def read_from(self, read: Callable[[], float], *label_values: str) -> None:
        """Take the value for these labels from `read`, which never decreases and may be called from any thread."""
        self._reads[label_values] = read

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The values now."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for label_values, read in self._reads.items():
            family.add_metric(label_values, read())
        yield family

    def describe(self) -> Iterable[CounterMetricFamily]:
        """The name, without reading anything."""
        return [CounterMetricFamily(self._name, self._meaning, labels=self._labels)]


def counter(name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
    """Define a counter. `name` is without prefix and ends in `_total`."""
    return Counter(_define(name, "counter", meaning, labels), meaning, labels)


def scraped_counter(name: str, meaning: str, labels: Sequence[str] = ()) -> ScrapedCounter:
    """Define a counter over numbers that the runtime keeps. `name` as for `counter`."""
    metric = ScrapedCounter(_define(name, "counter", meaning, labels), meaning, labels)
    REGISTRY.register(metric)
    return metric


def gauge(name: str, meaning: str, labels: Sequence[str] = (), *, merge: Merge = "sum") -> Gauge:
    """Define a gauge. Prefer `set_function` on its children, which reads the state when Prometheus asks.

    `merge`: how the values of several processes of one service become the one that Prometheus sees.
    """
    return Gauge(_define(name, "gauge", meaning, labels, merge=merge), meaning, labels)


def histogram(name: str, meaning: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> Histogram:
    """Define a histogram with these upper bounds; +Inf is added."""
    return Histogram(_define(name, "histogram", meaning, labels, tuple(buckets)), meaning, labels, buckets=buckets)


def serve_metrics(address: Address, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Serve /metrics at `address`, from a thread of its own. Returns a function that ends it."""
    host, port = split_address(address)
    server, thread = prometheus_client.start_http_server(port, addr=host or "0.0.0.0", registry=registry)

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close


def _define(
    name: str,
    kind: Literal["counter", "gauge", "histogram"],
    meaning: str,
    labels: Sequence[str],
    buckets: tuple[float, ...] = (),
    merge: Merge = "sum",
) -> str:
    full_name = PREFIX + name
    assert name.endswith("_total") == (kind == "counter"), f"{name}: exactly counters end in _total"
    assert full_name not in DEFINITIONS, f"{full_name} is defined twice"
    DEFINITIONS[full_name] = Definition(full_name, kind, meaning, tuple(labels), buckets, merge)
    return full_name
