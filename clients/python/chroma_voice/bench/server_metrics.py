"""The server's own metrics, read from its Prometheus page while the load runs."""

from __future__ import annotations

import math
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from chroma_voice.errors import FailedPrecondition, Unavailable

EVERY_S = 1.0
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Histogram:
    """Buckets of a histogram, summed over its labels: upper bound to the count up to it."""

    buckets: Mapping[float, float]

    def since(self, before: Histogram | None) -> Histogram:
        """Return the counts since `before`."""
        if before is None:
            return self
        return Histogram({bound: count - before.buckets.get(bound, 0.0) for bound, count in self.buckets.items()})

    def quantile(self, share: float) -> float | None:
        """Return the value below which this share lies, by a line within its bucket as PromQL does. None: no values."""
        bounds = sorted(self.buckets)
        total = self.buckets[bounds[-1]] if bounds else 0.0
        if total <= 0:
            return None
        lower, below = 0.0, 0.0
        for bound in bounds:
            count = self.buckets[bound]
            if count >= share * total:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (share * total - below) / max(count - below, 1e-9)
            lower, below = bound, count
        return lower


@dataclass(frozen=True)
class Scrape:
    """One reading of the page. `values` are gauges and counters summed over their labels."""

    at_s: float
    values: Mapping[str, float]
    histograms: Mapping[str, Histogram]


def parse(text: str, at_s: float) -> Scrape:
    """Return the metrics of a page in Prometheus's text format. Raises `ValueError` for anything else."""
    values: dict[str, float] = defaultdict(float)
    buckets: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith("_bucket") and "le" in sample.labels:
                buckets[family.name][float(sample.labels["le"])] += sample.value
            elif not sample.name.endswith("_created") and math.isfinite(sample.value):
                values[sample.name] += sample.value
    return Scrape(at_s, dict(values), {name: Histogram(dict(found)) for name, found in buckets.items()})


def read(url: str, at_s: float = 0.0) -> Scrape:
    """Read a page once. Raises `Unavailable` when nothing answers and `FailedPrecondition` when it shows no metrics."""
    url = url if "://" in url else f"http://{url}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as page:
            text = page.read().decode("utf-8", errors="replace")
        scrape = parse(text, at_s)
    except urllib.error.HTTPError as error:
        raise FailedPrecondition(f"{url} shows no metrics: HTTP {error.code}") from None
    except OSError as error:
        raise Unavailable(f"no metrics at {url}: {_reason(error)}") from None
    except ValueError:
        raise FailedPrecondition(f"{url} is no page of Prometheus metrics") from None
    if not scrape.values and not scrape.histograms:
        raise FailedPrecondition(f"{url} is no page of Prometheus metrics")
    return scrape


def _reason(error: OSError) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return (inner.strerror if isinstance(inner, OSError) else None) or str(inner)


@dataclass
class Scraper:
    """Reads pages every `EVERY_S` on a thread, until `stop`. A page that does not answer leaves a hole."""

    urls: Sequence[str]
    start_s: float
    """Start of the run, on `time.monotonic`."""
    scrapes: dict[str, list[Scrape]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Read each page once, which raises as `read` does, and begin."""
        for url in self.urls:
            self.scrapes[url] = [read(url, time.monotonic() - self.start_s)]
        if self.urls:
            self._thread.start()

    def stop(self) -> None:
        """Read each page a last time, and end."""
        if self._thread.is_alive():
            self._over.set()
            self._thread.join()
            self._read_all()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            self._read_all()

    def _read_all(self) -> None:
        for url in self.urls:
            try:
                self.scrapes[url].append(read(url, time.monotonic() - self.start_s))
            except (Unavailable, FailedPrecondition):
                continue
