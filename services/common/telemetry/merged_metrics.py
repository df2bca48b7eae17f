"""The metrics of several processes of one service as one page: sums, or the lowest or highest value where it says so.

A process hands over its values as plain data (`families`), and `MergedMetrics` shows those of all. The counters and
histograms of a process that ended have to stay in the sums (`lasting`): a sum that falls looks to Prometheus like a
restart, so that it counts the whole sum again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry
from prometheus_client.samples import Exemplar, Sample

from services.common.telemetry.metrics import DEFINITIONS, Merge

Families = list[dict[str, Any]]
"""The values of one process, as JSON has them."""

_OF_THE_LIBRARY: dict[str, Merge] = {
    "process_start_time_seconds": "min",
    "process_max_fds": "min",
    "python_info": "max",
}
"""How metrics of the client library are merged that are no sums."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


def families(registry: CollectorRegistry = REGISTRY, *, only: tuple[str, ...] = ("",)) -> Families:
    """The values now of all metrics whose names begin with one of `only`."""
    return _plain(metric for metric in registry.collect() if metric.name.startswith(only))


def _plain(metrics: Iterable[Metric]) -> Families:
    return [
        {
            "name": metric.name,
            "meaning": metric.documentation,
            "kind": metric.type,
            "merge": _merge_of(metric.name),
            "samples": [[s.name, s.labels, s.value, s.exemplar and list(s.exemplar)] for s in metric.samples],
        }
        for metric in metrics
    ]


def _merge_of(name: str) -> Merge:
    return DEFINITIONS[name].merge if name in DEFINITIONS else _OF_THE_LIBRARY.get(name, "sum")


class MergedMetrics(Collector):
    """Reads the values of all processes when Prometheus asks."""

    def __init__(self, read: Callable[[], Iterable[Families]]) -> None:
        """`read` returns the values of each process; it runs on the thread of the scrape."""
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """The merged values now."""
        return _merged(self._read())


def lasting(*processes: Families) -> Families:
    """What counters and histograms of processes that ended came to together."""
    kinds = "counter", "histogram", "summary"
    return _plain(_merged([family for family in process if family["kind"] in kinds] for process in processes))


def _merged(processes: Iterable[Families]) -> list[Metric]:
    found: dict[str, tuple[dict[str, Any], dict[_Key, Sample]]] = {}
    for family in (family for process in processes for family in process):
        _, samples = found.setdefault(family["name"], (family, {}))
        for name, labels, value, exemplar in family["samples"]:
            key = name, tuple(sorted(labels.items()))
            sample = Sample(name, labels, value, exemplar=Exemplar(*exemplar) if exemplar else None)
            samples[key] = _both(samples[key], sample, family["merge"]) if key in samples else sample
    merged = []
    for name, (family, samples) in found.items():
        metric = Metric(name, family["meaning"], family["kind"])
        metric.samples = list(samples.values())
        merged.append(metric)
    return merged


def _both(one: Sample, other: Sample, merge: Merge) -> Sample:
    """The sample for two processes. A value that is not known (NaN) gives way to one that is."""
    exemplars = [sample.exemplar for sample in (one, other) if sample.exemplar]
    newest = max(exemplars, key=lambda exemplar: exemplar.timestamp or 0, default=None)
    known = [sample.value for sample in (one, other) if not math.isnan(sample.value)]
    value = {"sum": sum, "min": min, "max": max}[merge](known) if known else math.nan
    return one._replace(value=value, exemplar=newest)
