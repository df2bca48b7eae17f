"""The AI SDK and LangChain over chat completions, responses and speech."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client
from tests.support.paths import ROOT
from tests.support.stock_clients import NODE_PROGRAMS, PYTHON_PROGRAMS, node_client, python_client

TEXT = "".join(REPLY)

pytestmark = pytest.mark.slow


@pytest.fixture
async def calling(fakes: Fakes, start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A gateway whose model calls a tool, and speaks about its result."""
    script = fakes.reasoner.script
    script.renders_tools, script.speaks_results = True, True
    script.reply, script.tool_calls = (), (("get_weather", '{"city": "Bern"}'),)
    await fakes.reasoner.restart()
    async with start_gateway() as client:
        yield client


async def ai_sdk(client: Client, scenario: str) -> Any:
    """What the AI SDK saw in a scenario."""
    return await node_client("ai_sdk.mjs", scenario, f"http://{client.http_address}/v1")


def test_the_guide_names_the_versions_that_are_tested() -> None:
    rows = [line.split("|") for line in (ROOT / "docs" / "api.md").read_text().splitlines() if line.count("|") == 6]
    named = {version for row in rows for version in re.findall(r"\b\d+\.\d+\.\d+\b", row[2])}
    node = json.loads((NODE_PROGRAMS / "package.json").read_text())["dependencies"]
    python = dict(
        line.split("==") for line in (PYTHON_PROGRAMS / "requirements.txt").read_text().split() if "==" in line
    )
    clients = ("pipecat-ai", "livekit-agents", "livekit-plugins-openai", "openai", "langchain-openai")
    tested = {python[name] for name in clients}
    tested |= {version for name, version in node.items() if name not in ("zod", "ws", "@langchain/core")}
    assert named == tested


@pytest.mark.parametrize("api", ["responses", "chat", "compatible"])
async def test_ai_sdk_generates_and_streams_text(client: Client, api: str) -> None:
    seen = await ai_sdk(client, api)
    assert seen == {"whole": TEXT, "reason": "stop", "tokens": len(REPLY) + 1, "streamed": TEXT}


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_ai_sdk_calls_a_tool_and_gets_the_answer(calling: Client, api: str) -> None:
    seen = await ai_sdk(calling, f"tools-{api}")
    assert seen == {"text": TEXT, "calls": [["get_weather", {"city": "Bern"}]]}


async def test_ai_sdk_is_told_when_the_model_knows_no_tools(client: Client) -> None:
    seen = await ai_sdk(client, "tools-refused")
    assert seen["status"] == 400
    assert "tools" in seen["message"]


async def test_ai_sdk_stops_at_a_sequence(client: Client) -> None:
    assert await ai_sdk(client, "stop") == {"text": "Hello,"}


async def test_ai_sdk_has_a_text_spoken(client: Client) -> None:
    assert await ai_sdk(client, "speech") == {"head": "RIFF"}


async def test_langchain_for_python_invokes_streams_and_stops(client: Client) -> None:
    seen = await python_client("langchain_chat.py", f"http://{client.http_address}/v1")
    assert seen == {"invoked": TEXT, "streamed": TEXT, "stopped": "Hello,", "responses": TEXT}


async def test_langchain_for_javascript_invokes_streams_and_stops(client: Client) -> None:
    seen = await node_client("langchain.mjs", f"http://{client.http_address}/v1")
    assert seen == {"invoked": TEXT, "streamed": TEXT, "stopped": "Hello,", "responses": TEXT}
