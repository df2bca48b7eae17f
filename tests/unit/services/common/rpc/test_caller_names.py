"""A process that names its callers serves them and no other holder of a certificate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from chroma.v1 import checkpoint_pb2, checkpoint_pb2_grpc
from services.common.rpc.server import Server
from services.common.rpc.tls import channel_credentials
from services.common.settings import ServiceSettings
from tests.support.certificates import write_pair


class Checkpoints(checkpoint_pb2_grpc.CheckpointServiceServicer):
    async def GetCheckpoint(self, request: Any, context: Any) -> checkpoint_pb2.GetCheckpointResponse:  # noqa: N802
        return checkpoint_pb2.GetCheckpointResponse(checkpoint_fingerprint="abc")


@asynccontextmanager
async def reasoner(files: Path, callers: str) -> AsyncIterator[str]:
    settings = ServiceSettings(
        tls_cert=files / "tls.crt", tls_key=files / "tls.key", tls_ca=files / "ca.crt", tls_callers=callers
    )
    server = Server(settings)
    checkpoint_pb2_grpc.add_CheckpointServiceServicer_to_server(Checkpoints(), server.grpc)
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.grpc.stop(0)


@asynccontextmanager
async def channel_of(address: str, files: Path) -> AsyncIterator[aio.Channel]:
    credentials = channel_credentials(files / "ca.crt", files / "tls.crt", files / "tls.key")
    name = [("grpc.ssl_target_name_override", "reasoner")]
    async with aio.secure_channel(address, credentials, options=name) as channel:
        yield channel


async def fingerprint(channel: aio.Channel) -> str:
    stub: Any = checkpoint_pb2_grpc.CheckpointServiceStub(channel)
    return (await stub.GetCheckpoint(checkpoint_pb2.GetCheckpointRequest(), timeout=60)).checkpoint_fingerprint


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    authority = trustme.CA()
    folders = {name: tmp_path / name for name in ("reasoner", "gateway", "codec")}
    for name, folder in folders.items():
        folder.mkdir()
        write_pair(folder, authority, name)
    return folders


async def test_the_certificate_of_the_codec_does_not_open_the_reasoner(files: dict[str, Path]) -> None:
    async with reasoner(files["reasoner"], "gateway, gateway.chroma-voice.svc") as address:
        async with channel_of(address, files["gateway"]) as channel:
            assert await fingerprint(channel) == "abc"
        async with channel_of(address, files["codec"]) as channel:
            with pytest.raises(aio.AioRpcError, match="the certificate of the caller is for codec") as refused:
                await fingerprint(channel)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_health_answers_every_holder_of_a_certificate(files: dict[str, Path]) -> None:
    async with reasoner(files["reasoner"], "gateway") as address, channel_of(address, files["codec"]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert await stub.Check(health_pb2.HealthCheckRequest(), timeout=60)


async def test_without_names_every_certificate_of_the_authority_may_call(files: dict[str, Path]) -> None:
    async with reasoner(files["reasoner"], "") as address, channel_of(address, files["codec"]) as channel:
        assert await fingerprint(channel) == "abc"


def test_names_without_an_authority_are_refused_at_the_start() -> None:
    with pytest.raises(ValidationError, match="CHROMA_TLS_CA"):
        ServiceSettings(tls_callers="gateway")
