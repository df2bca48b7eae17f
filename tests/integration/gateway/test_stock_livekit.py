"""The realtime session of LiveKit's OpenAI plugin over /v1/realtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice
from tests.support.stock_clients import python_client

TEXT = "".join(REPLY)
SPOKEN = (2 * len(REPLY) + 2) * 1920

pytestmark = pytest.mark.slow


@pytest.fixture
async def client(fakes: Fakes, start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A gateway with the voices `ada` and `bob`."""
    async with start_gateway() as client:
        for voice in ("ada", "bob"):
            await client.voices.CreateVoice(new_voice(voice))
        yield client


async def session(client: Client, scenario: str, key: str = "none") -> Any:
    """What a session of the plugin saw in a scenario."""
    return await python_client("livekit_session.py", scenario, f"http://{client.http_address}/v1", key)


async def test_greeting_has_the_sessions_and_the_replys_instructions(client: Client, fakes: Fakes) -> None:
    seen = await session(client, "greets")
    assert (seen["errors"], seen["texts"], seen["audio_samples"]) == ([], [TEXT] * 2, [SPOKEN] * 2)
    prompts = [opened.system_prompt for opened in fakes.reasoner.script.opened]
    assert prompts == ["You are a guide.\nGreet the visitor.", "You are a guide."]
    assert len(fakes.reasoner.script.opened[-1].history) == 1


async def test_silence_of_an_open_microphone_is_no_part_of_a_greeting(client: Client, fakes: Fakes) -> None:
    seen = await session(client, "open-microphone")
    assert (seen["errors"], seen["audio_samples"]) == ([], [SPOKEN])
    assert fakes.reasoner.script.heard == []


async def test_interrupted_reply_is_edited_where_it_stands(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_next_call(at=3)
    seen = await session(client, "edits")
    assert (seen["errors"], seen["in_order"]) == ([], True)
    history = fakes.reasoner.script.opened[-1].history
    texts = [part.text for message in history for part in message.parts]
    assert texts == ["Good morning.", "Tell me a story.", "Once upon a time."]


async def test_options_without_effect_leave_the_session_as_it_was_asked_for(client: Client, fakes: Fakes) -> None:
    seen = await session(client, "options")
    assert (seen["errors"], seen["texts"]) == ([], [TEXT])
    assert fakes.reasoner.script.opened[0].system_prompt.startswith("You are a guide.")


async def test_wrong_key_ends_the_session(start_gateway: StartGateway) -> None:
    async with start_gateway(api_keys='{"sk-right": "tenant"}') as client:
        seen = await session(client, "refused", "sk-wrong")
    assert len(seen["fatal"]) == 1
    assert len(seen["errors"]) <= 3  # the plugin's own number of tries


async def test_tenant_without_a_voice_ends_the_session(start_gateway: StartGateway) -> None:
    async with start_gateway() as client:
        seen = await session(client, "refused")
    assert len(seen["fatal"]) == 1
    assert len(seen["errors"]) <= 3
