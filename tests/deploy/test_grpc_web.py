"""The real Envoy with the configuration of the sidecar, in front of a scripted gateway."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from chroma.v1 import dialogue_pb2
from chroma_voice.local.ports import free_ports
from tests.support.fake_gateway import FakeGateway, serving
from tests.support.paths import ROOT

CONFIG = ROOT / "deploy" / "envoy" / "grpc-web.yaml"
ENVOY = Path(sys.executable).parent / "envoy"
ORIGIN = "https://voice.example.com"
TRAILERS = 0x80

pytestmark = pytest.mark.slow


@asynccontextmanager
async def envoy(gateway: str, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Envoy with the configuration of the sidecar, except for its ports."""
    config = yaml.safe_load(CONFIG.read_text())
    port, admin = free_ports(2)
    host, _, gateway_port = gateway.partition(":")
    resources = config["static_resources"]
    resources["listeners"][0]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    config["admin"]["address"]["socket_address"]["port_value"] = admin
    endpoint = resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["address"]["socket_address"] = {"address": host, "port_value": int(gateway_port)}
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(config))
    arguments = ("--config-path", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    process = await asyncio.create_subprocess_exec(ENVOY, *arguments)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            async with asyncio.timeout(60):
                while not await _answers(admin):  # noqa: ASYNC110  # another process sets no event of ours
                    await asyncio.sleep(0.05)
            yield client
    finally:
        process.terminate()
        await process.wait()


async def _answers(admin_port: int) -> bool:
    try:
        async with httpx.AsyncClient(timeout=60) as client:
            return (await client.get(f"http://127.0.0.1:{admin_port}/ready")).text.strip() == "LIVE"
    except httpx.TransportError:
        return False


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that stands for a browser's gRPC-Web client."""
    async with serving(FakeGateway()) as address, envoy(address, tmp_path) as client:
        yield client


async def call(client: httpx.AsyncClient, method: str, request: bytes) -> tuple[bytes, dict[str, str]]:
    """Make one gRPC-Web call. Returns the message of the answer and the trailers."""
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": ORIGIN}
    response = await client.post(method, content=struct.pack(">BI", 0, len(request)) + request, headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/grpc-web+proto"
    assert response.headers["access-control-allow-origin"] == ORIGIN
    message, trailers, body = b"", dict(response.headers), response.content
    while body:
        flags, size = struct.unpack(">BI", body[:5])
        part, body = body[5 : 5 + size], body[5 + size :]
        if flags & TRAILERS:
            lines = (line.partition(":") for line in part.decode().split("\r\n") if line)
            trailers.update({name.strip().lower(): value.strip() for name, _, value in lines})
        else:
            message = part
    return message, trailers


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
