"""Metrics of an engine. `service` is reasoner, speech_gen or codec; `kind` names the sort of step or slot.

Steps and admissions are observed as they happen; slots, pages and row counts are read when Prometheus asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Histogram

from services.common.errors import ResourceExhausted
from services.common.telemetry.metrics import LATENCY_BUCKETS_S, counter, gauge, histogram, scraped_counter
from services.common.telemetry.process_metrics import REFUSED

STEP_BUCKETS_S = (
    0.001,
    0.002,
    0.004,
    0.006,
    0.008,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.06,
    0.08,
    0.12,
    0.2,
    0.5,
    1.0,
    2.5,
)
"""One frame lasts 0.08 s: steps that make frames and take longer cannot keep up."""

WIDTH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

STEP_SECONDS = histogram("step_seconds", "Seconds of one engine step.", ["service", "kind"], buckets=STEP_BUCKETS_S)
STEP_WIDTH = histogram("step_width", "Streams that shared one engine step.", ["service", "kind"], buckets=WIDTH_BUCKETS)
STEP_ERRORS = counter("step_errors_total", "Engine steps that failed, and with them their streams.", ["service"])
PHASE_ERRORS = counter(
    "engine_phase_errors_total",
    "Failures of the engine's loop, by `phase`: release, admit, schedule, idle_s, step, deliver.",
    ["service", "phase"],
)
PHASE_AGE_SECONDS = gauge(
    "engine_phase_age_seconds",
    "Seconds since the engine's current phase began; 0 while it waits for work. Above CHROMA_ENGINE_STALL_S the "
    "service is not serving.",
    ["service"],
)
QUEUE_WAIT_SECONDS = histogram(
    "queue_wait_seconds",
    "Seconds between a stream's arrival at the engine and its admission.",
    ["service"],
    buckets=LATENCY_BUCKETS_S,
)
SLOTS_USED = gauge("slots_used", "Slots that hold a stream.", ["service", "kind"])
SLOTS_FREE = gauge("slots_free", "Slots that hold none: streams that could be admitted now.", ["service", "kind"])
KV_PAGES_USED = gauge("kv_pages_used", "Pages of keys and values in use, by streams or as kept prefixes.", ["service"])
KV_PAGES_KEPT = gauge(
    "kv_pages_kept",
    "Pages of prefixes kept for later streams, also those in use now. They are evicted when pages are needed.",
    ["service"],
)
KV_PAGES_FREE = gauge("kv_pages_free", "Pages of keys and values that are free.", ["service"])
PROMPT_ROWS = scraped_counter(
    "prompt_rows_total",
    "Rows of prompts, by `source`: computed, or cached in pages of an earlier stream.",
    ["service", "source"],
)
REDONE_CHUNKS = scraped_counter(
    "redone_chunks_total",
    "Chunks of 2 s of speech that were encoded again because a louder part followed.",
    ["service"],
)
PREEMPTIONS = scraped_counter(
    "preemptions_total",
    "Streams that gave up their pages of keys and values because the memory was full. They go on later.",
    ["service"],
)
FRAMES = scraped_counter("frames_total", "Code frames of 80 ms made (speech_gen) or decoded (codec).", ["service"])

VOICE_PROMPTS = gauge("voice_prompts", "Voice prompts in the cache of the speech generator.", ["service"])
VOICE_PROMPT_BYTES = gauge(
    "voice_prompt_bytes", "Bytes of these voice prompts on the device, at most CHROMA_VOICE_CACHE_BYTES.", ["service"]
)


@dataclass(frozen=True)
class Capacity:
    """A number of things of which some are free; `free` may be called from any thread."""

    total: int
    free: Callable[[], int]


def show_phase_age(service: str, age_s: Callable[[], float]) -> None:
    """Show the engine's heartbeat from now on: `age_s` gives the seconds since its current phase began."""
    PHASE_AGE_SECONDS.labels(service).set_function(age_s)


class EngineMetrics:
    """The observer of an engine that feeds these metrics: an `EngineObserver` (services/runtime/engine/observer.py)."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._queue_wait = QUEUE_WAIT_SECONDS.labels(service)
        self._step_errors = STEP_ERRORS.labels(service)
        self._steps: dict[str, tuple[Histogram, Histogram]] = {}
        for reason in ("slots", "kv_pages"):
            REFUSED.labels(service, reason)

    def admitted(self, waited_s: float) -> None:
        """A stream got its slot."""
        self._queue_wait.observe(waited_s)

    def refused(self, error: BaseException) -> None:
        """A stream got no slot. Only a lack of room counts; a bad request is counted in the calls' statuses."""
        if isinstance(error, ResourceExhausted):
            REFUSED.labels(self._service, error.resource).inc()

    def stepped(self, kind: str, width: int, seconds: float) -> None:
        """One step of `width` streams is over."""
        step = self._steps.get(kind)
        if step is None:
            step = STEP_SECONDS.labels(self._service, kind), STEP_WIDTH.labels(self._service, kind)
            self._steps[kind] = step
        step[0].observe(seconds)
        step[1].observe(width)

    def phase_failed(self, phase: str) -> None:
        """A phase of the engine's loop raised an error."""
        PHASE_ERRORS.labels(self._service, phase).inc()
        if phase == "step":
            self._step_errors.inc()

    def show_slots(self, kind: str, slots: Capacity) -> None:
        """Show slots of this kind from now on."""
        SLOTS_FREE.labels(self._service, kind).set_function(slots.free)
        SLOTS_USED.labels(self._service, kind).set_function(lambda: slots.total - slots.free())

    def show_kv_pages(self, pages: Capacity, kept: Callable[[], int]) -> None:
        """Show pages of keys and values from now on, and those of them that are `kept` as prefixes."""
        KV_PAGES_KEPT.labels(self._service).set_function(kept)
        KV_PAGES_FREE.labels(self._service).set_function(pages.free)
        KV_PAGES_USED.labels(self._service).set_function(lambda: pages.total - pages.free())

    def show_prompt_rows(self, *, computed: Callable[[], int], cached: Callable[[], int]) -> None:
        """Show rows of prompts from now on."""
        PROMPT_ROWS.read_from(computed, self._service, "computed")
        PROMPT_ROWS.read_from(cached, self._service, "cached")

    def show_redone_chunks(self, read: Callable[[], int]) -> None:
        """Show chunks encoded again from now on."""
        REDONE_CHUNKS.read_from(read, self._service)

    def show_preemptions(self, read: Callable[[], int]) -> None:
        """Show preemptions from now on."""
        PREEMPTIONS.read_from(read, self._service)

    def show_voice_prompts(self, count: Callable[[], int], size_bytes: Callable[[], int]) -> None:
        """Show the cached voice prompts from now on."""
        VOICE_PROMPTS.labels(self._service).set_function(count)
        VOICE_PROMPT_BYTES.labels(self._service).set_function(size_bytes)

    def show_frames(self, read: Callable[[], int]) -> None:
        """Show frames from now on."""
        FRAMES.read_from(read, self._service)
