"""A replica follows the health of its service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from chroma.v1.codec_pb2_grpc import CodecServiceStub
from gateway.pipeline import upstreams
from gateway.pipeline.outliers import Outlier
from gateway.pipeline.replicas import Replica, open_channel
from gateway.pipeline.upstreams import Upstream
from gateway.settings import GatewaySettings
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings
from tests.support.certificates import write_pair
from tests.support.fake_services import FakeService

_SERVICE = "chroma.v1.CodecService"


async def test_a_replica_serves_while_its_service_says_so() -> None:
    server = Server(ServiceSettings(listen="127.0.0.1:0"))
    server.register(_SERVICE)
    address = f"127.0.0.1:{await server.start()}"
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0")
    away = asyncio.Event()
    replica = Replica(
        address,
        _SERVICE,
        lambda channel: None,
        partial(open_channel, address, "codec", settings),
        Outlier("codec", address),
        away.set,
    )
    try:
        assert replica.is_new
        assert not await replica.until_serving(0)
        await server.set_serving()
        assert await replica.until_serving(30)
        assert not replica.is_new
        assert not away.is_set()
        await server.drain(0)
        async with asyncio.timeout(30):
            await away.wait()
        assert not replica.serving
    finally:
        await replica.close(0)
        await server.drain(0)


async def test_renewed_certificates_are_used_without_a_restart_and_running_calls_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstreams, "_CERTIFICATES_EVERY_S", 0.05)
    authority = trustme.CA()
    for name in ("codec", "gateway"):
        (tmp_path / name).mkdir()
        write_pair(tmp_path / name, authority, name)
    of_service: dict[str, Any] = {f"tls_{it}": tmp_path / "codec" / name for it, name in _FILES.items()}
    service = FakeService("codec", **of_service)
    await service.start()
    files: dict[str, Any] = {f"services_tls_{it}": tmp_path / "gateway" / name for it, name in _FILES.items()}
    settings = GatewaySettings(
        reasoner="a:1", speech_gen="b:1", codec=service.address, redis_url="redis://d:1/0", **files
    )
    upstream = Upstream("codec", "chroma.v1.CodecService", service.address, CodecServiceStub, settings)
    await upstream.start()
    try:
        await _until(lambda: upstream.serving)
        (replica,) = upstream._replicas.values()
        first, running = replica.channel, replica.stub.Decode()
        await running.wait_for_connection()

        renewed = trustme.CA()  # the server trusts only the new authority from here on
        (tmp_path / "gateway" / "tls.crt").write_text("half a file")
        write_pair(tmp_path / "codec", renewed, "codec")
        await asyncio.sleep(0.2)
        assert replica.channel is first
        assert upstream.serving
        write_pair(tmp_path / "gateway", renewed, "gateway")
        await _until(lambda: replica.channel is not first)
        assert await upstream.call_with_failover("any", _check) == "answered"
        assert not running.done()
        running.cancel()
        await _until(lambda: not replica._retiring)
    finally:
        await upstream.close()
        await service.kill()


_FILES = {"cert": "tls.crt", "key": "tls.key", "ca": "ca.crt"}


async def _check(stub: Any) -> str:
    call = stub.Decode()
    await call.wait_for_connection()
    call.cancel()
    return "answered"


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  # gRPC's threads set no event of ours
            await asyncio.sleep(0.02)
