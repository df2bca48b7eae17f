"""OpenAI's own packages for Python and JavaScript at their newest versions, over every API that we share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.integration.gateway.conftest import StartGateway
from tests.support.certificates import write_pair
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice
from tests.support.paths import SAMPLES
from tests.support.stock_clients import node_client, python_client

TEXT = "".join(REPLY)

pytestmark = pytest.mark.slow


@pytest.fixture
async def client(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A gateway that transcribes, with the voice `ada`."""
    async with start_gateway(transcribe=True) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def node(client: Client, scenario: str) -> Any:
    """What the JavaScript package saw in a scenario."""
    return await node_client("openai.mjs", scenario, f"http://{client.http_address}/v1")


async def test_python_package_uses_every_api(client: Client) -> None:
    speech = str(SAMPLES / "question_make_taco.wav")
    seen = await python_client("openai_client.py", f"http://{client.http_address}/v1", speech)
    assert seen["realtime"] == {"text": TEXT, "status": "completed", "errors": 0}
    assert seen["chat"] == [TEXT, "stop"]
    assert seen["responses"] == seen["transcription"] == TEXT
    assert seen["speech"] > 0
    assert seen["models"]


async def test_node_package_talks_over_tls(start_gateway: StartGateway, tmp_path: Path) -> None:
    write_pair(tmp_path, trustme.CA(), "localhost")
    certificate = {"http_tls_cert": tmp_path / "tls.crt", "http_tls_key": tmp_path / "tls.key"}
    async with start_gateway(**certificate) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        url = f"https://localhost:{client.http_address.rpartition(':')[2]}/v1"
        seen = await node_client("openai.mjs", "realtime", url, NODE_EXTRA_CA_CERTS=str(tmp_path / "ca.crt"))
    assert seen == {"errors": [], "text": TEXT, "status": "completed"}


async def test_node_package_chats(client: Client) -> None:
    assert await node(client, "chat") == {"whole": TEXT, "streamed": TEXT, "reason": "stop"}


async def test_node_package_has_texts_spoken(client: Client) -> None:
    seen = await node(client, "speech")
    assert seen["pcm"] > 0
    assert seen["aac"].startswith("fff")  # the sync word of ADTS


async def test_node_package_has_responses(client: Client) -> None:
    assert await node(client, "responses") == {"whole": TEXT, "streamed": TEXT}
