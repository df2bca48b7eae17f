from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from chroma.v1 import codec_pb2  # noqa: F401  # its descriptor enters the pool
from services.common.rpc.reflection import V1, V1ALPHA, serve_reflection

SERVICE = "chroma.v1.CodecService"

Request = ServerReflectionRequest


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = aio.server()
    serve_reflection(server, [SERVICE])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def ask(address: str, service: str, request: Request) -> ServerReflectionResponse:
    """The answer of this version of the service. The messages of both versions are equal on the wire."""
    async with aio.insecure_channel(address) as channel:
        rpc: Any = channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            request_serializer=Request.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        return await anext(aiter(rpc(iter([request]))))


@pytest.mark.parametrize("version", [V1, V1ALPHA])
async def test_both_versions_list_the_services(address: str, version: str) -> None:
    answer = await ask(address, version, Request(list_services=""))
    assert {service.name for service in answer.list_services_response.service} == {SERVICE, V1, V1ALPHA}


@pytest.mark.parametrize("version", [V1, V1ALPHA])
@pytest.mark.parametrize("name", [SERVICE, V1, V1ALPHA])
async def test_both_versions_describe_each_service_that_they_list(address: str, version: str, name: str) -> None:
    answer = await ask(address, version, Request(file_containing_symbol=name))
    files = [FileDescriptorProto.FromString(file) for file in answer.file_descriptor_response.file_descriptor_proto]
    assert name in {f"{file.package}.{service.name}" for file in files for service in file.service}


async def test_the_description_of_v1_names_only_types_of_v1(address: str) -> None:
    answer = await ask(address, V1, Request(file_containing_symbol=V1))
    assert b"v1alpha" not in b"".join(answer.file_descriptor_response.file_descriptor_proto)


@pytest.mark.parametrize("protocol", ["grpc-v1", "grpc-v1alpha"])
async def test_a_stock_tool_calls_by_reflection_alone(address: str, protocol: str) -> None:
    buf = Path(sys.executable).with_name("buf")
    call = [buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--list-services"]
    command = [*call, "--reflect-protocol", protocol, f"http://{address}"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert SERVICE in done.stdout.splitlines()
