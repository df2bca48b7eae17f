"""What an engine reports, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import REGISTRY

from services.common.errors import InvalidArgument, ResourceExhausted
from services.common.telemetry.engine_metrics import Capacity, EngineMetrics, show_phase_age


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"chroma_voice_{name}", labels)


def test_steps_are_counted_by_kind_and_failures_by_phase() -> None:
    metrics = EngineMetrics("engine-a")
    metrics.stepped("decode", 3, 0.005)
    metrics.stepped("decode", 5, 0.005)
    metrics.phase_failed("step")
    metrics.phase_failed("schedule")
    assert value("step_seconds_count", service="engine-a", kind="decode") == 2
    assert value("step_width_sum", service="engine-a", kind="decode") == 8
    assert value("step_errors_total", service="engine-a") == 1
    assert value("engine_phase_errors_total", service="engine-a", phase="schedule") == 1


def test_only_a_lack_of_room_counts_as_a_refusal() -> None:
    metrics = EngineMetrics("engine-b")
    metrics.refused(ResourceExhausted("full"))
    metrics.refused(InvalidArgument("bad"))
    assert value("admission_refused_total", service="engine-b", reason="slots") == 1


def test_slots_and_the_heartbeat_are_read_when_they_are_asked_for() -> None:
    free = [4]
    age_s = [0.0]
    EngineMetrics("engine-c").show_slots("decode", Capacity(4, lambda: free[0]))
    show_phase_age("engine-c", lambda: age_s[0])
    free[0], age_s[0] = 1, 2.5
    assert value("slots_used", service="engine-c", kind="decode") == 3
    assert value("engine_phase_age_seconds", service="engine-c") == 2.5
