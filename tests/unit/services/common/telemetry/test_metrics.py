import asyncio
import socket
import urllib.request

import pytest
from prometheus_client import REGISTRY

from services.common.errors import InvalidArgument, ResourceExhausted
from services.common.telemetry import metrics, process_metrics
from services.common.telemetry.engine_metrics import Capacity, EngineMetrics


def value(name: str, **labels: str) -> float:
    """A sample of the page; 0 when it is not there."""
    return REGISTRY.get_sample_value(f"chroma_voice_{name}", labels) or 0.0


@pytest.fixture
def engine() -> EngineMetrics:
    return EngineMetrics("reasoner")


def test_steps_are_counted_by_kind_with_their_time_and_width(engine: EngineMetrics) -> None:
    before = value("step_seconds_sum", service="reasoner", kind="think")
    width_before = value("step_width_bucket", service="reasoner", kind="think", le="4.0")
    engine.stepped("think", 3, 0.25)
    assert value("step_seconds_sum", service="reasoner", kind="think") == before + 0.25
    assert value("step_width_bucket", service="reasoner", kind="think", le="4.0") == width_before + 1


def test_only_a_lack_of_room_counts_as_a_refusal(engine: EngineMetrics) -> None:
    before = value("admission_refused_total", service="reasoner", reason="kv_pages")
    engine.refused(ResourceExhausted("none left", resource="kv_pages"))
    engine.refused(InvalidArgument("no such limit"))
    assert value("admission_refused_total", service="reasoner", reason="kv_pages") == before + 1


def test_slots_and_pages_are_read_when_the_page_is(engine: EngineMetrics) -> None:
    free = [4]
    engine.show_slots("think", Capacity(4, lambda: free[0]))
    engine.show_kv_pages(Capacity(100, lambda: 10 * free[0]), kept=lambda: 20)
    free[0] = 1
    assert value("slots_used", service="reasoner", kind="think") == 3
    assert value("slots_free", service="reasoner", kind="think") == 1
    assert value("kv_pages_used", service="reasoner") == 90
    assert value("kv_pages_kept", service="reasoner") == 20


async def test_tasks_are_counted_while_they_live() -> None:
    process_metrics.watch_tasks("gateway")
    before = value("tasks", service="gateway")
    waiting = asyncio.create_task(asyncio.Event().wait())
    assert value("tasks", service="gateway") == before + 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert value("tasks", service="gateway") == before


def test_rows_are_counted_from_the_runners_own_numbers(engine: EngineMetrics) -> None:
    rows = [0, 0]
    engine.show_prompt_rows(computed=lambda: rows[0], cached=lambda: rows[1])
    rows[:] = [7, 5]
    assert value("prompt_rows_total", service="reasoner", source="computed") == 7
    assert value("prompt_rows_total", service="reasoner", source="cached") == 5


def test_a_name_is_defined_once() -> None:
    with pytest.raises(AssertionError, match="defined twice"):
        metrics.gauge("serving", "Again.")


def test_the_page_is_served_until_it_is_closed() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    close = metrics.serve_metrics(f"127.0.0.1:{port}")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    close()
    assert "# HELP chroma_voice_step_seconds" in page
    assert "_created" not in page
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60)
