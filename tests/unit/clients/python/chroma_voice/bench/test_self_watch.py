from __future__ import annotations

import asyncio
import time

import pytest

from chroma_voice.bench.records import Health
from chroma_voice.bench.self_watch import SelfWatch, bottlenecks


def health(worker: int = 0, *, cpu: float = 0.1, lagging: float = 0.0, max_lag_s: float = 0.001) -> Health:
    return Health(worker, 1.0, 0.25, cpu, max_lag_s, lagging, 3, 1)


def test_a_worker_in_good_order_is_no_bottleneck() -> None:
    assert bottlenecks([]) == []
    assert bottlenecks([health(), health(1, cpu=0.5)]) == []


def test_late_timers_and_a_busy_core_are_bottlenecks_and_say_so() -> None:
    samples = [health(), health(1, lagging=0.05, max_lag_s=0.3), health(2, cpu=0.97)]
    late, busy = bottlenecks(samples)
    assert late.startswith("worker 1 was itself a bottleneck: 5.0% of its timers were late by more than 20 ms")
    assert "the latest by 300 ms" in late
    assert busy.startswith("worker 2 was itself a bottleneck: it used 97% of a core")
    assert "more --workers" in busy


def test_a_short_peak_in_a_long_run_is_none() -> None:
    assert bottlenecks([health(lagging=0.5), *(health() for _ in range(100))]) == []


def test_it_takes_what_it_measured_and_begins_anew() -> None:
    seconds = iter([10.0, 12.0, 13.0])
    cpu = iter([1.0, 2.5, 2.5])
    watch = SelfWatch(lambda: next(seconds), lambda: next(cpu))
    watch.note(0.001)
    watch.note(0.105)  # ten further timers were due meanwhile
    taken = watch.take(4, 12.0, 7, 2)
    assert (taken.worker, taken.conversations, taken.replies, taken.interval_s) == (4, 7, 2, 2.0)
    assert taken.cpu == pytest.approx(0.75)
    assert taken.max_lag_s == 0.105
    assert taken.lagging == pytest.approx(11 / 12)
    assert watch.take(4, 13.0, 0, 0).max_lag_s == 0.0


async def test_a_blocked_event_loop_is_seen() -> None:
    watch = SelfWatch()
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0.03)
    time.sleep(0.2)  # noqa: ASYNC251 - the blocking is what is tested
    await asyncio.sleep(0.03)
    task.cancel()
    taken = watch.take(0, 0.0, 0, 0)
    assert taken.max_lag_s >= 0.18
    assert taken.lagging > 0.3
