"""The real Envoy with the configuration of `deploy/envoy`, in front of a scripted gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from chroma.v1 import dialogue_pb2
from tests.support.envoy import envoy, grpc_web_message, grpc_web_messages
from tests.support.fake_gateway import FakeGateway, serving

ORIGIN = "https://voice.example.com"

pytestmark = pytest.mark.slow


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that stands for a browser's gRPC-Web client."""
    async with (
        serving(FakeGateway()) as address,
        envoy(tmp_path / "envoy.yaml", grpc=address) as proxy,
        httpx.AsyncClient(base_url=f"http://{proxy}", timeout=60) as client,
    ):
        yield client


async def call(client: httpx.AsyncClient, method: str, request: bytes) -> tuple[bytes, dict[str, str]]:
    """Make one gRPC-Web call. Returns the message of the answer and the trailers."""
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": ORIGIN}
    response = await client.post(method, content=grpc_web_message(request), headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/grpc-web+proto"
    assert response.headers["access-control-allow-origin"] == ORIGIN
    messages, trailers = grpc_web_messages(response.content)
    return b"".join(messages), {**response.headers, **trailers}


async def test_browsers_list_voices_by_grpc_web(browser: httpx.AsyncClient) -> None:
    request = dialogue_pb2.ListVoicesRequest().SerializeToString()
    message, trailers = await call(browser, "/chroma.v1.VoiceService/ListVoices", request)
    assert trailers["grpc-status"] == "0"
    assert [voice.voice_id for voice in dialogue_pb2.ListVoicesResponse.FromString(message).voices] == ["reader"]


async def test_a_status_of_the_gateway_reaches_the_browser(browser: httpx.AsyncClient) -> None:
    request = dialogue_pb2.GetVoiceRequest(voice_id="nobody").SerializeToString()
    message, trailers = await call(browser, "/chroma.v1.VoiceService/GetVoice", request)
    assert (message, trailers["grpc-status"]) == (b"", "5")  # NOT_FOUND
    assert "nobody" in trailers["grpc-message"]


async def test_only_pages_of_the_stated_origin_may_call(browser: httpx.AsyncClient) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-grpc-web,content-type"}
    path = "/chroma.v1.VoiceService/ListVoices"
    allowed = await browser.options(path, headers={**asked, "origin": ORIGIN})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "x-grpc-web" in allowed.headers["access-control-allow-headers"]
    refused = await browser.options(path, headers={**asked, "origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in refused.headers


async def test_only_the_public_services_are_reached(browser: httpx.AsyncClient) -> None:
    assert (await browser.post("/chroma.v1.ReasonerService/Think")).status_code == 404
    assert (await browser.post("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")).status_code == 404
