"""OpenAI's agents package for JavaScript, against /v1/realtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice, s16
from tests.support.realtime_client import recorded
from tests.support.stock_clients import node_client

SPOKEN_BYTES = (2 * len(REPLY) + 2) * 1920 * 2

pytestmark = pytest.mark.slow


@pytest.fixture
async def client(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A gateway with the voices `ada` and `bob`."""
    async with start_gateway() as client:
        for voice in ("ada", "bob"):
            await client.voices.CreateVoice(new_voice(voice))
        yield client


@pytest.fixture
async def with_tools(fakes: Fakes, start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A gateway whose model knows tools, with the voice `bob`."""
    fakes.reasoner.script.renders_tools, fakes.reasoner.script.speaks_results = True, True
    fakes.reasoner.script.reply = ()
    await fakes.reasoner.restart()
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("bob"))
        yield client


async def agent(client: Client, scenario: str, *files: Path) -> Any:
    """What an agent saw in a scenario."""
    url = f"ws://{client.http_address}/v1/realtime"
    return await node_client("agents.mjs", scenario, url, *(str(file) for file in files))


async def test_an_agent_asks_in_text_and_in_speech_and_gets_both_answers(client: Client, tmp_path: Path) -> None:
    speech = tmp_path / "speech.pcm"
    speech.write_bytes(s16(recorded("question_make_taco.wav")))
    seen = await agent(client, "talk", speech)
    assert seen["errors"] == []
    assert seen["afterText"] == {"turns": 1, "audioBytes": SPOKEN_BYTES, "status": "completed"}
    assert seen["afterSpeech"] == {"turns": 2, "audioBytes": 2 * SPOKEN_BYTES, "status": "completed"}
    assert [entry["role"] for entry in seen["history"]] == ["user", "assistant", "user", "assistant"]


async def test_an_agents_tool_is_called_beside_settings_without_effect(with_tools: Client, fakes: Fakes) -> None:
    fakes.reasoner.script.tool_calls = (("get_weather", '{"city": "Bern"}'),)
    seen = await agent(with_tools, "calls")
    assert (seen["errors"], seen["calls"], seen["audioBytes"]) == ([], ["Bern"], SPOKEN_BYTES)
    assert fakes.reasoner.script.opened[0].system_prompt == "You are a guide."


async def test_an_agent_hands_over_to_another_and_its_instructions_are_in_force(
    with_tools: Client, fakes: Fakes
) -> None:
    fakes.reasoner.script.tool_calls = (("transfer_to_Cook", "{}"),)
    seen = await agent(with_tools, "handoff")
    assert (seen["errors"], seen["handoffs"]) == ([], [["Guide", "Cook"]])
    assert [opened.system_prompt for opened in fakes.reasoner.script.opened] == ["You are a guide.", "You are a cook."]


async def test_an_item_that_an_agent_edits_stays_where_it_was(client: Client, fakes: Fakes) -> None:
    seen = await agent(client, "edit")
    assert seen["errors"] == []
    history = fakes.reasoner.script.opened[-1].history
    assert [part.text for message in history for part in message.parts] == ["Hello.", "Good morning."]


async def test_an_agent_interrupts_a_reply_and_talks_on(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_next_call(at=4)  # the agent interrupts once it hears the first frame
    seen = await agent(client, "interrupt")
    assert (seen["errors"], seen["interrupted"]) == ([], 1)
    assert (seen["afterInterrupt"], seen["status"]) == ("cancelled", "completed")
