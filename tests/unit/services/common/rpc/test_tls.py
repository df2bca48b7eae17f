import asyncio
import socket
import ssl
import warnings
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

from gateway.pipeline.replicas import open_channel
from gateway.settings import GatewaySettings
from services.common.rpc.check_health import is_serving
from services.common.rpc.server import LIVENESS, Server
from services.common.rpc.tls import channel_credentials
from services.common.settings import ServiceSettings
from tests.support.certificates import write_pair

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NAME_OF_PEER = [("grpc.ssl_target_name_override", "reasoner")]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_files(tmp_path: Path, authority: trustme.CA) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    write_pair(folder, authority, "reasoner")
    return folder


@pytest.fixture
def caller_files(tmp_path: Path, authority: trustme.CA) -> Path:
    folder = tmp_path / "gateway"
    folder.mkdir()
    write_pair(folder, authority, "gateway")
    return folder


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def serving(files: Path) -> AsyncIterator[tuple[Server, str]]:
    server = Server(ServiceSettings(tls_cert=files / "tls.crt", tls_key=files / "tls.key", tls_ca=files / "ca.crt"))
    port = await server.start()
    await server.set_serving()
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.grpc.stop(0)


async def ask(channel: aio.Channel, name: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)).status


async def ask_over_tls(address: str, trusted: Path, shown: Path | None) -> int:
    credentials = channel_credentials(
        trusted / "ca.crt", shown / "tls.crt" if shown else None, shown / "tls.key" if shown else None
    )
    async with aio.secure_channel(address, credentials, options=NAME_OF_PEER) as channel:
        return await ask(channel)


async def test_a_caller_with_a_certificate_of_the_authority_is_served(server_files: Path, caller_files: Path) -> None:
    async with serving(server_files) as (_, address):
        assert await ask_over_tls(address, caller_files, caller_files) == SERVING


async def test_a_caller_without_a_certificate_is_turned_away(server_files: Path, caller_files: Path) -> None:
    async with serving(server_files) as (_, address):
        with pytest.raises(aio.AioRpcError) as refused:
            await ask_over_tls(address, caller_files, None)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_caller_of_another_authority_is_turned_away(
    server_files: Path, caller_files: Path, tmp_path: Path
) -> None:
    write_pair(tmp_path, trustme.CA(), "gateway")
    async with serving(server_files) as (_, address):
        with pytest.raises(aio.AioRpcError) as refused:
            await ask_over_tls(address, caller_files, tmp_path)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_plain_text_is_turned_away_where_tls_is_on(server_files: Path) -> None:
    async with serving(server_files) as (_, address), aio.insecure_channel(address) as channel:
        with pytest.raises(aio.AioRpcError):
            await ask(channel)


async def test_renewed_certificates_hold_for_the_next_connection(server_files: Path, caller_files: Path) -> None:
    async with serving(server_files) as (_, address):
        assert await ask_over_tls(address, caller_files, caller_files) == SERVING
        renewed = trustme.CA()
        write_pair(server_files, renewed, "reasoner")
        write_pair(caller_files, renewed, "gateway")
        assert await ask_over_tls(address, caller_files, caller_files) == SERVING


async def test_a_missing_file_leaves_the_last_certificate_in_use(server_files: Path, caller_files: Path) -> None:
    async with serving(server_files) as (_, address):
        (server_files / "tls.crt").unlink()
        assert await ask_over_tls(address, caller_files, caller_files) == SERVING


async def test_liveness_answers_before_and_while_no_turn_would_work() -> None:
    server = Server(ServiceSettings())
    server.register("chroma.v1.ReasonerService")
    port = await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await ask(channel, "chroma.v1.ReasonerService") == NOT_SERVING
        assert await ask(channel, LIVENESS) == SERVING
    await server.drain(0)


async def test_the_plain_health_port_answers_health_and_nothing_else(server_files: Path, free_port: int) -> None:
    settings = ServiceSettings(
        health_listen=f"127.0.0.1:{free_port}",
        tls_cert=server_files / "tls.crt",
        tls_key=server_files / "tls.key",
        tls_ca=server_files / "ca.crt",
    )
    server = Server(settings)
    await server.start()
    try:
        assert not await asyncio.to_thread(is_serving, settings)
        await server.set_serving()
        assert await asyncio.to_thread(is_serving, settings)
        async with aio.insecure_channel(settings.health_listen) as channel:
            reflect = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
            with pytest.raises(aio.AioRpcError) as refused:
                await reflect().read()  # sends nothing: a write could meet the end of the call
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    finally:
        await server.drain(0)
    assert not await asyncio.to_thread(is_serving, settings)


@pytest.mark.parametrize("given", [{"tls_cert": "a.pem"}, {"tls_key": "a.pem"}, {"tls_ca": "a.pem"}])
def test_half_a_tls_configuration_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="CHROMA_TLS_CERT"):
        ServiceSettings.model_validate(given)


async def test_the_gateways_channel_takes_only_the_service_it_names(server_files: Path, caller_files: Path) -> None:
    settings = GatewaySettings(
        reasoner="-",
        speech_gen="-",
        codec="-",
        redis_url="-",
        services_tls_ca=caller_files / "ca.crt",
        services_tls_cert=caller_files / "tls.crt",
        services_tls_key=caller_files / "tls.key",
    )
    async with serving(server_files) as (_, address):
        async with open_channel(address, "reasoner", settings) as channel:
            assert await ask(channel) == SERVING
        async with open_channel(address, "codec", settings) as channel:
            with pytest.raises(aio.AioRpcError):
                await ask(channel)


@pytest.mark.parametrize(("version", "accepted"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)])
async def test_nothing_older_than_tls_1_2_is_spoken(
    server_files: Path, caller_files: Path, version: ssl.TLSVersion, accepted: bool
) -> None:
    async with serving(server_files) as (_, address):
        assert await asyncio.to_thread(shakes_hands, address, caller_files, version) == accepted


def shakes_hands(address: str, files: Path, version: ssl.TLSVersion) -> bool:
    """Whether a client that speaks only this version of TLS, and that all old ciphers suit, gets a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files / "ca.crt")
    context.load_cert_chain(files / "tls.crt", files / "tls.key")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="reasoner") as connection:
                return connection.version() is not None
        except (ssl.SSLError, ConnectionError):
            return False
