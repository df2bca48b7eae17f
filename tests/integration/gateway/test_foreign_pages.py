"""What a web page of another site, or under a name that leads to the gateway by DNS rebinding, can do: nothing."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.integration.gateway.conftest import StartGateway
from tests.support.gateway_client import Client, audio_file, new_voice, speech

EVIL = "https://evil.example"


def _connect(client: Client, name: str = "localhost", path: str = "/v1/realtime", **options: Any) -> connect:
    """A WebSocket to the gateway under this name."""
    host, _, port = client.http_address.rpartition(":")
    return connect(f"ws://{name}{path}", host=host, port=int(port), **options)


async def _refused(client: Client, name: str = "localhost", path: str = "/v1/realtime", **options: Any) -> Any:
    """The status of a WebSocket handshake that is refused, and the code of the error."""
    with pytest.raises(InvalidStatus) as refused:
        async with _connect(client, name, path, **options):
            pass
    response = refused.value.response
    assert response.headers["x-content-type-options"] == "nosniff"
    return response.status_code, json.loads(response.body or b"")["error"]["code"]


async def test_a_foreign_page_opens_no_websocket(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    assert await _refused(client, origin=EVIL) == (403, "foreign_origin")
    assert await _refused(client, "evil.example") == (421, "foreign_host")
    assert await _refused(client, path="/v1/anything") == (404, "not_found")
    assert await _refused(client, path="/") == (404, "not_found")
    assert "ASGI" not in caplog.text
    async with _connect(client, origin="http://localhost") as own:
        assert json.loads(await own.recv())["type"] == "session.created"


async def test_a_foreign_page_enrols_reads_and_deletes_nothing(client: Client) -> None:
    url = f"http://{client.http_address}"
    form = {"voice_id": "alloy", "transcript": "x", "consent": "x"}
    files = {"file": ("v.wav", audio_file(speech(2, rate_hz=24_000)))}
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        for headers, status in (({"origin": EVIL}, 403), ({"host": "evil.example"}, 421)):
            assert (await http.post("/v1/voices", data=form, files=files, headers=headers)).status_code == status
            assert (await http.delete("/v1/voices/ada", headers=headers)).status_code == status
            assert (await http.get("/v1/voices", headers=headers)).status_code == status
        chat = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
        assert (
            await http.post("/v1/chat/completions", content=chat, headers={"content-type": "text/plain"})
        ).status_code == 415
        assert [voice["id"] for voice in (await http.get("/v1/voices")).json()["data"]] == ["ada"]


async def test_a_page_of_an_allowed_origin_talks(start_gateway: StartGateway) -> None:
    async with start_gateway(http_origins=EVIL, http_hosts="voice.example.com") as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with _connect(client, "voice.example.com", origin=EVIL) as page:
            assert json.loads(await page.recv())["type"] == "session.created"
