"""The metrics, the log lines and the trace of a turn."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from prometheus_client import REGISTRY

from chroma.v1 import dialogue_pb2 as pb
from services.common.errors import ResourceExhausted
from tests.integration.gateway.conftest import Fakes
from tests.support.gateway_client import Client

QUESTION = "a question that no log may hold"


def value(name: str, **labels: str) -> float:
    """A sample of the metrics page."""
    return REGISTRY.get_sample_value(f"chroma_voice_{name}", labels) or 0.0


def turns(outcome: str, status: str = "OK") -> float:
    return value("turns_total", outcome=outcome, status=status, reply="generated")


def fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if hasattr(record, "fields")]


async def test_a_completed_turn_is_counted_with_its_first_sound_and_each_part_of_it(client: Client) -> None:
    before = turns("completed")
    sounds = value("first_sound_seconds_count", reply="generated")
    parts = {name: value("stage_seconds_count", stage=name) for name in ("hearing", "first_frame", "gateway")}
    async with client.converse() as talk:
        done = await talk.ask(QUESTION)
    assert done.outcome == pb.TURN_OUTCOME_COMPLETED
    assert turns("completed") == before + 1
    assert value("first_sound_seconds_count", reply="generated") == sounds + 1
    assert {name: value("stage_seconds_count", stage=name) for name in parts} == {
        name: count + 1 for name, count in parts.items()
    }


async def test_an_interrupted_turn_is_a_barge_in(client: Client, fakes: Fakes) -> None:
    before, barge_ins = turns("interrupted"), value("barge_ins_total")
    fakes.codec.script.hold_at = 2
    async with client.converse() as talk:
        await talk.send(text=QUESTION)
        await talk.send(commit=pb.CommitTurn())
        await talk.until("audio")
        await talk.send(cancel=pb.CancelTurn())
        await talk.done()
    assert turns("interrupted") == before + 1
    assert value("barge_ins_total") == barge_ins + 1


async def test_a_failed_turn_is_counted_by_its_status(client: Client, fakes: Fakes) -> None:
    before = turns("failed", "RESOURCE_EXHAUSTED")
    fakes.reasoner.script.refusal = ResourceExhausted("no free slot")
    async with client.converse() as talk:
        await talk.ask(QUESTION)
    assert turns("failed", "RESOURCE_EXHAUSTED") == before + 1


async def test_open_conversations_are_counted_and_no_longer_when_closed(client: Client) -> None:
    before = value("conversations")
    async with client.converse() as talk:
        await talk.ask(QUESTION)
        assert value("conversations") == before + 1
        await talk.finish()
    assert value("conversations") == before


async def test_replicas_and_exchanges_with_the_store_are_shown(client: Client) -> None:
    writes = value("store_seconds_count", operation="write")
    async with client.converse() as talk:
        await talk.ask(QUESTION)
    assert value("replicas", stage="codec", state="serving") == 1
    assert value("replicas", stage="codec", state="away") == 0
    assert value("store_seconds_count", operation="write") > writes


async def test_the_spans_of_a_turn_are_one_trace_from_the_gateway_to_the_engines(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with client.converse() as talk:
            done = await talk.ask(QUESTION)
    spans = {one["span"]: one for one in fields(caplog) if one.get("turn") == done.turn_id and "span" in one}
    root = spans["turn"]
    assert {"committed", "first_thought", "first_frame", "first_audio", "first_sound"} <= root["marks"].keys()
    for service, method in (("reasoner", "Think"), ("speech_gen", "Speak"), ("codec", "Decode")):
        call = spans[f"{service}.{method}"]
        assert (call["trace_id"], call["parent_id"]) == (root["trace_id"], root["span_id"])
        served = next(one for name, one in spans.items() if name.endswith(f"Service/{method}"))
        assert (served["trace_id"], served["parent_id"]) == (root["trace_id"], call["span_id"])


async def test_the_log_tells_how_a_turn_went_and_not_what_was_said(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with client.converse() as talk:
            done = await talk.ask(QUESTION)
    (line,) = (one for one in fields(caplog) if one.get("turn") == done.turn_id and "outcome" in one)
    assert line["outcome"] == "completed"
    assert line["first_sound_s"] > 0
    assert line["output_tokens"] == done.output_tokens
    everything = repr([record.__dict__ for record in caplog.records]) + caplog.text
    assert QUESTION not in everything
    assert done.text
    assert done.text not in everything
