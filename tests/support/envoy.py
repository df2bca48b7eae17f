"""The real Envoy with the configuration of `deploy/envoy`, except for its ports."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from chroma_voice.local.ports import free_ports
from tests.support.paths import ROOT

CONFIG = ROOT / "deploy" / "envoy" / "envoy.yaml"
_ENVOY = Path(sys.executable).parent / "envoy"
_NOWHERE = "127.0.0.1:9"


def routes(config: Any) -> list[Any]:
    """The routes of a configuration, in order."""
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager["route_config"]["virtual_hosts"][0]["routes"]


def _unchanged(config: Any) -> None:
    return


@asynccontextmanager
async def envoy(
    file: Path, *, grpc: str, http: str = _NOWHERE, change: Callable[[Any], None] = _unchanged
) -> AsyncIterator[str]:
    """Run Envoy in front of a gateway's two addresses. Yields its own. `change` may change the configuration, which is
    written to `file`."""
    port, admin = free_ports(2)
    _write(file, port, admin, (grpc, http), change)
    arguments = ("--config-path", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    process = await asyncio.create_subprocess_exec(_ENVOY, *arguments)
    try:
        async with asyncio.timeout(60):
            while not await _answers(admin):  # another process sets no event of ours
                assert process.returncode is None, "Envoy runs"
                await asyncio.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _write(file: Path, port: int, admin: int, upstreams: tuple[str, str], change: Callable[[Any], None]) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    resources = config["static_resources"]
    resources["listeners"][0]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    config["admin"]["address"]["socket_address"]["port_value"] = admin
    for cluster, address in zip(resources["clusters"], upstreams, strict=True):
        host, _, upstream_port = address.rpartition(":")
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["socket_address"] = {"address": host, "port_value": int(upstream_port)}
    change(config)
    file.write_text(yaml.safe_dump(config))


async def _answers(admin_port: int) -> bool:
    try:
        async with httpx.AsyncClient(timeout=60) as client:
            return (await client.get(f"http://127.0.0.1:{admin_port}/ready")).text.strip() == "LIVE"
    except httpx.TransportError:
        return False


def grpc_web_messages(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """The messages and the trailers in the body of a gRPC-Web answer."""
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    while body:
        size = int.from_bytes(body[1:5], "big")
        flags, part, body = body[0], body[5 : 5 + size], body[5 + size :]
        if flags & 0x80:
            lines = (line.partition(":") for line in part.decode().split("\r\n") if line)
            trailers.update({name.strip().lower(): value.strip() for name, _, value in lines})
        else:
            messages.append(part)
    return messages, trailers


def grpc_web_message(message: bytes) -> bytes:
    """A message as it stands in the body of a gRPC-Web request."""
    return b"\0" + len(message).to_bytes(4, "big") + message
