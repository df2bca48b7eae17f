"""Stock clients go on at another gateway when theirs drains. Each talks through one address, as in a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import new_voice, s16
from tests.support.realtime_client import recorded
from tests.support.stock_clients import node_client, python_client
from tests.support.switchboard import Switchboard, switchboard

SPOKEN = (2 * len(REPLY) + 2) * 1920
TEXT = "".join(REPLY)

pytestmark = pytest.mark.slow


@asynccontextmanager
async def drained(start_gateway: StartGateway, fakes: Fakes) -> AsyncIterator[Switchboard]:
    """Two gateways behind one address. The first one drains when it has given a whole reply."""
    async with start_gateway(drain_idle_s=0.5) as leaving, start_gateway() as staying:
        for voice in ("ada", "bob"):
            await leaving.voices.CreateVoice(new_voice(voice))
        async with switchboard(leaving.http_address) as board:

            async def drain() -> None:
                while not fakes.reasoner.script.opened:
                    fakes.reasoner.script.news.clear()
                    await fakes.reasoner.script.news.wait()
                await fakes.all_freed()
                board.target = staying.http_address
                await leaving.server.drain(30)

            draining = asyncio.create_task(drain())
            yield board
            await draining
            assert board.connections == [leaving.http_address, staying.http_address]


def past(fakes: Fakes) -> list[str]:
    """The texts of the history before the last reply; token ids as the fake's reply."""
    parts = [part for message in fakes.reasoner.script.opened[-1].history for part in message.parts]
    return [part.text or TEXT for part in parts]


async def test_livekits_session_connects_again_by_itself_and_knows_what_was_said(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with drained(start_gateway, fakes) as board:
        seen = await python_client("livekit_session.py", "drained", f"http://{board.address}/v1", "none")
    assert (seen["fatal"], seen["texts"], seen["audio_samples"]) == ([], [TEXT] * 2, [SPOKEN] * 2)
    assert fakes.reasoner.script.opened[-1].system_prompt == "You are a guide."
    assert past(fakes) == [TEXT]


async def test_a_bot_of_pipecat_goes_on_in_the_session_that_its_error_names(
    start_gateway: StartGateway, fakes: Fakes, tmp_path: Path
) -> None:
    (speech := tmp_path / "speech.pcm").write_bytes(s16(recorded("question_make_taco.wav")))
    async with drained(start_gateway, fakes) as board:
        url = f"ws://{board.address}/v1/realtime"
        seen = await python_client("pipecat_bot.py", "drained", url, str(speech))
    assert (seen["replies"], seen["audio_bytes"]) == (2, 2 * SPOKEN * 2)
    assert all(error.startswith("Error sending client event: received 1012") for error in seen["errors"])
    assert past(fakes) == ["Say hello.", TEXT]
    assert fakes.reasoner.script.opened[-1].system_prompt == "You are a guide."


async def test_an_agent_of_openai_connects_again_with_the_id_of_its_session(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with drained(start_gateway, fakes) as board:
        seen = await node_client("agents.mjs", "drained", f"ws://{board.address}/v1/realtime")
    assert (seen["errors"], seen["turns"], seen["status"]) == ([], 2, "completed")
    assert seen["audioBytes"] == 2 * SPOKEN * 2
    assert past(fakes) == ["Hello.", TEXT]
