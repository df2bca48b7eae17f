"""A real Prometheus scrapes the running processes: every target is up, and every query of every dashboard has data."""

from __future__ import annotations

import asyncio
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from chroma_voice import TurnDone, TurnStarted
from chroma_voice.events import AudioDelta
from services.common.telemetry.metrics import DEFINITIONS, PREFIX
from tests.deploy.test_monitoring import DASHBOARDS, RECORDED, panels
from tests.support.local_stack import LONG_SPEECH, VOICE, LocalStack, run, until
from tests.support.prometheus_tools import MONITORING, rule_groups, scraping

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUERIES = [
    (name, panel["title"], target["expr"])
    for name, dashboard in DASHBOARDS.items()
    for panel in panels(dashboard)
    for target in panel["targets"]
]


async def talk(stack: LocalStack) -> str:
    """Take a turn that ends, an interrupted turn, and a turn with a forced reply. Returns the id of the first."""
    async with stack.client() as client, client.conversation(voice=VOICE, max_reply_s=2) as conversation:
        await conversation.send_text("How are you?")
        await conversation.commit()
        ids = [event.turn_id async for event in conversation.reply() if isinstance(event, TurnStarted)]
    async with (
        stack.client() as client,
        client.conversation(voice=VOICE, sampling=LONG_SPEECH, max_reply_s=30) as conversation,
    ):
        await conversation.send_text("Tell me a story.")
        await conversation.commit()
        async for event in conversation.reply():
            if isinstance(event, AudioDelta):
                await conversation.cancel()
            if isinstance(event, TurnDone):
                assert event.outcome == "interrupted"
    async with stack.client() as client, client.conversation(voice=VOICE, max_reply_s=2) as conversation:
        await conversation.say("Good morning.")
        async for _ in conversation.reply():
            pass
    return ids[0]


def has_data(series: list[dict[str, Any]]) -> bool:
    return any(not math.isnan(float(one["value"][1])) for one in series)


def as_asked(query: str) -> str:
    """A dashboard's query as Grafana would send it."""
    return re.sub(r"\$__rate_interval", "5m", query.replace("$namespace", ".*"))


async def test_every_dashboard_query_has_data_and_every_metric_shown_is_defined(
    stack: LocalStack, tmp_path: Path
) -> None:
    with scraping(stack.endpoints.metrics, tmp_path, rule_groups()) as prometheus:
        await until(lambda: prometheus.up() and set(prometheus.up().values()) == {"up"})
        await until(lambda: has_data(prometheus.ask("chroma_voice_turns_total")))
        await talk(stack)
        await until(
            lambda: has_data(prometheus.ask('increase(chroma_voice_turns_total{outcome="interrupted"}[5m]) > 0'))
        )
        await asyncio.sleep(3)  # a few scrapes more: rates need two
        empty = [
            (board, title, query) for board, title, query in QUERIES if not has_data(prometheus.ask(as_asked(query)))
        ]
        assert not empty
        for name in RECORDED:
            assert prometheus.ask(name), name
        shown = {one["metric"]["__name__"] for one in prometheus.ask(f'{{__name__=~"{PREFIX}.*"}}')}
        plain = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
        assert plain <= DEFINITIONS.keys()


async def test_a_turns_waterfall_is_put_together_from_the_logs_of_all_processes(stack: LocalStack) -> None:
    turn_id = await talk(stack)
    picture = run("trace", turn_id, "--state", stack.folder.path)
    for span in ("turn", "reasoner.Think", "ReasonerService/Think", "SpeechGenService/Speak", "CodecService/Decode"):
        assert span in picture, picture
    assert "first_sound" in picture
    assert run("trace", "turn-none", "--state", stack.folder.path, expect=1).startswith("error (NOT_FOUND)")


def test_the_rules_are_where_the_component_says() -> None:
    assert "rules.yaml" in yaml.safe_load((MONITORING / "kustomization.yaml").read_text())["resources"]
