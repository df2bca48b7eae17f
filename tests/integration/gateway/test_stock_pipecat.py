"""Pipecat's bots over /v1/realtime, as people run them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice, s16
from tests.support.realtime_client import recorded
from tests.support.stock_clients import python_client

SPOKEN_BYTES = (2 * len(REPLY) + 2) * 1920 * 2

pytestmark = pytest.mark.slow


@pytest.fixture
async def client(fakes: Fakes, start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A gateway that transcribes, with the voices `ada` and `bob`."""
    async with start_gateway(transcribe=True) as client:
        for voice in ("ada", "bob"):
            await client.voices.CreateVoice(new_voice(voice))
        yield client


async def bot(client: Client, scenario: str, folder: Path) -> Any:
    """What a bot saw in a scenario."""
    speech = folder / "speech.pcm"
    speech.write_bytes(s16(recorded("question_make_taco.wav")))
    return await python_client("pipecat_bot.py", scenario, f"ws://{client.http_address}/v1/realtime", str(speech))


async def test_the_shipped_example_greets_and_answers(client: Client, fakes: Fakes, tmp_path: Path) -> None:
    seen = await bot(client, "example", tmp_path)
    assert seen["errors"] == []
    assert (seen["replies"], seen["audio_bytes"]) == (2, 2 * SPOKEN_BYTES)
    assert fakes.reasoner.script.opened[0].system_prompt == "You are a guide."
    assert fakes.reasoner.script.opened[1].history
    assert [said["role"] for said in seen["messages"]].count("user") == 2  # the second is the transcript


async def test_a_bot_with_an_empty_context_speaks_first(client: Client, fakes: Fakes, tmp_path: Path) -> None:
    seen = await bot(client, "empty", tmp_path)
    assert (seen["errors"], seen["audio_bytes"]) == ([], SPOKEN_BYTES)
    assert fakes.reasoner.script.opened[0].system_prompt == "Greet the visitor."
    assert fakes.reasoner.script.heard == []


async def test_a_bot_that_ends_turns_itself_greets_into_an_open_microphone(
    client: Client, fakes: Fakes, tmp_path: Path
) -> None:
    seen = await bot(client, "open-microphone", tmp_path)
    assert (seen["errors"], seen["replies"], seen["audio_bytes"]) == ([], 2, 2 * SPOKEN_BYTES)
    assert fakes.reasoner.script.opened[0].history == []


async def test_speech_interrupts_a_bot_and_is_answered(client: Client, fakes: Fakes, tmp_path: Path) -> None:
    fakes.codec.script.hold_next_call(at=4)
    seen = await bot(client, "interrupted", tmp_path)
    assert (seen["errors"], seen["interruptions"]) == ([], 1)
    assert seen["audio_bytes"] == 4 * 1920 * 2 + SPOKEN_BYTES


async def test_a_bots_function_is_called_and_its_result_is_answered(
    fakes: Fakes, start_gateway: StartGateway, tmp_path: Path
) -> None:
    script = fakes.reasoner.script
    script.renders_tools, script.speaks_results = True, True
    script.reply, script.tool_calls = (), (("get_weather", '{"city": "Bern"}'),)
    await fakes.reasoner.restart()
    async with start_gateway() as client:
        for voice in ("ada", "bob"):
            await client.voices.CreateVoice(new_voice(voice))
        seen = await bot(client, "calls", tmp_path)
    assert seen["calls"] == [["get_weather", {"city": "Bern"}]]
    assert (seen["errors"], seen["audio_bytes"]) == ([], SPOKEN_BYTES)
    assert script.opened[-1].history[-1].parts[0].text == '{"sky": "clear"}'
