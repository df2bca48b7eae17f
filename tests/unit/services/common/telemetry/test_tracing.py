import asyncio
import json
import logging
from collections.abc import Iterator

import pytest

from services.common.errors import NotFound
from services.common.rpc import context
from services.common.telemetry import tracing
from services.common.telemetry.logs import configure_logs
from services.common.telemetry.tracing import Span, mark, note, trace

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def clean_context() -> Iterator[None]:
    token = context.traceparent.set("")
    yield
    context.traceparent.reset(token)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Span]:
    spans: list[Span] = []
    monkeypatch.setattr(tracing, "_exports", [spans.append])
    return spans


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield capsys
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_span_is_the_child_of_the_callers_and_calls_carry_it_on(exported: list[Span]) -> None:
    context.traceparent.set(PARENT)
    with trace("outer") as outer:
        assert dict(context.outgoing_metadata())["traceparent"] == f"00-{outer.trace_id}-{outer.span_id}-01"
        with trace("inner") as inner:
            pass
    assert (outer.trace_id, outer.parent_id) == (PARENT[3:35], PARENT[36:52])
    assert (inner.trace_id, inner.parent_id) == (outer.trace_id, outer.span_id)
    assert context.traceparent.get() == PARENT
    assert exported == [inner, outer]


@pytest.mark.parametrize(
    "given", ["", "nonsense", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", PARENT.replace("00-4", "01-4")]
)
def test_a_missing_or_malformed_parent_starts_a_new_trace(given: str) -> None:
    context.traceparent.set(given)
    with trace("first") as span:
        assert span.parent_id == ""
        assert len(span.trace_id) == 32
        assert span.trace_id not in PARENT


def test_a_trace_that_is_not_sampled_is_logged_and_not_exported(
    exported: list[Span], caplog: pytest.LogCaptureFixture
) -> None:
    context.traceparent.set(PARENT.removesuffix("01") + "00")
    with caplog.at_level(logging.INFO), trace("quiet"):
        assert context.traceparent.get().endswith("-00")
    assert exported == []
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(NotFound("no voice"), "NOT_FOUND"), (asyncio.CancelledError(), "CANCELLED"), (KeyError("x"), "INTERNAL")],
)
def test_an_error_is_the_spans_status(error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), trace("failing") as span:
        raise error
    assert span.status == status


def test_the_first_mark_counts_and_fields_join_the_record() -> None:
    with trace("work", kind="a") as span:
        mark("began")
        first = span.marks["began"]
        mark("began")
        note(frames=3)
    assert span.marks == {"began": first}
    assert span.record()["frames"] == 3
    assert span.record()["kind"] == "a"


def test_marks_and_notes_outside_any_span_are_dropped() -> None:
    mark("nothing")
    note(nothing=1)


async def test_spans_of_tasks_side_by_side_do_not_mix() -> None:
    async def work(name: str) -> Span:
        with trace(name) as span:
            await asyncio.sleep(0)
            mark(name)
            return span

    with trace("parent") as parent:
        spans = await asyncio.gather(*(work(name) for name in "abc"))
    assert [list(span.marks) for span in spans] == [["a"], ["b"], ["c"]]
    assert {span.parent_id for span in spans} == {parent.span_id}


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_log_line_of_a_span_ends_in_or_is_one_json_object(logs: pytest.CaptureFixture[str], style: str) -> None:
    configure_logs("INFO", "json" if style == "json" else "text", "codec")
    token = context.turn_id.set("turn-1")
    try:
        with trace("Decode") as span:
            pass
    finally:
        context.turn_id.reset(token)
    (line,) = logs.readouterr().err.splitlines()
    record = json.loads(line[line.index("{") :])
    assert (record["span"], record["turn"], record["span_id"]) == ("Decode", "turn-1", span.span_id)
    assert (style == "json") == ("service" in record)
