"""How a process ends, and how its health follows the engine's heartbeat."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, ClassVar

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chroma.v1 import codec_pb2, codec_pb2_grpc
from services.common import process
from services.common.errors import BadSetting, CheckpointError, Unavailable
from services.common.process import LoadedModel, run_process, serve_model, watch_engine
from services.common.rpc.server import LIVENESS, Server
from services.common.settings import ModelSettings, ServiceSettings

SERVICE = codec_pb2.DESCRIPTOR.services_by_name["CodecService"]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class NoCodec(codec_pb2_grpc.CodecServiceServicer):
    """A servicer that is never called."""

    def Encode(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        raise AssertionError("this servicer is never called")

    def Decode(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        raise AssertionError("this servicer is never called")


class FakeEngine:
    """An engine whose heartbeat the test sets."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self.phase: tuple[str, float] = ("", 0.0)
        self.started = asyncio.Event()
        self.stopped = False

    def busy(self) -> tuple[str, float]:
        return self.phase

    def start(self) -> None:
        self.started.set()

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WATCH_EVERY_S", 0.005)


async def until(stub: Any, name: str, status: int) -> None:
    """Wait until health says `status` of `name`."""
    async with asyncio.timeout(60):
        async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name)):
            if answer.status == status:
                return


class Watched:
    """A serving server whose health follows a fake engine."""

    def __init__(self, server: Server, stub: Any) -> None:
        self.server = server
        self.health = stub
        self.engine = FakeEngine()

    async def say(self, status: int, liveness: int) -> None:
        """Wait until every health name says so."""
        for name in ("", SERVICE.full_name):
            await until(self.health, name, status)
        await until(self.health, LIVENESS, liveness)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    server = Server(ServiceSettings())
    server.register(SERVICE.full_name)
    port = await server.start()
    await server.set_serving()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        found = Watched(server, health_pb2_grpc.HealthStub(channel))
        watching = asyncio.create_task(watch_engine(found.engine, server, stall_s=1.0))
        yield found
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    await server.grpc.stop(0)


async def test_health_turns_while_a_phase_takes_too_long_and_recovers_when_it_ends(watched: Watched) -> None:
    watched.engine.phase = ("step", 0.9)
    await watched.say(SERVING, liveness=SERVING)
    watched.engine.phase = ("step", 1.1)
    await watched.say(NOT_SERVING, liveness=NOT_SERVING)
    watched.engine.phase = ("", 0.0)
    await watched.say(SERVING, liveness=SERVING)


async def test_a_phase_that_ends_during_a_drain_does_not_make_the_server_serve(watched: Watched) -> None:
    watched.engine.phase = ("step", 2.0)
    await watched.say(NOT_SERVING, liveness=NOT_SERVING)
    watched.server.draining.set()
    watched.engine.phase = ("", 0.0)
    await watched.say(NOT_SERVING, liveness=SERVING)


async def test_a_failed_engine_is_not_live(watched: Watched) -> None:
    watched.engine.failure = "the device is lost"
    await watched.say(NOT_SERVING, liveness=NOT_SERVING)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


async def test_a_model_is_loaded_served_and_ended_when_its_engine_fails() -> None:
    settings = ModelSettings(model="none", listen=f"127.0.0.1:{free_port()}", threads=3)
    engine = FakeEngine()
    prepared: list[tuple[str, int]] = []
    serving = asyncio.create_task(
        serve_model(
            settings,
            load=lambda settings: LoadedModel(engine, NoCodec(), "f1", "float32", 3),
            service=SERVICE,
            add_to_server=codec_pb2_grpc.add_CodecServiceServicer_to_server,
            prepare_device=lambda device, threads: prepared.append((device, threads)),
        )
    )
    await asyncio.wait_for(engine.started.wait(), 60)
    assert prepared == [("cpu", 3)]
    async with aio.insecure_channel(settings.listen) as channel:
        await until(health_pb2_grpc.HealthStub(channel), SERVICE.full_name, SERVING)
        engine.failure = "5 failures in a row"
    with pytest.raises(Unavailable, match="the engine has stopped: 5 failures in a row"):
        await asyncio.wait_for(serving, 60)
    assert engine.stopped


class Quiet(ServiceSettings):
    service: ClassVar[str] = "quiet"


def test_a_domain_error_ends_the_process_with_its_message_as_the_last_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def serve(settings: Quiet) -> None:
        raise CheckpointError("model.safetensors: tensor x is missing")

    with pytest.raises(SystemExit) as ended:
        run_process(Quiet, serve)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].endswith("cannot serve: model.safetensors: tensor x is missing")
    assert "Traceback" not in said


def test_a_bad_file_that_a_setting_names_ends_the_process_as_a_bad_setting_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def serve(settings: Quiet) -> None:
        raise BadSetting("CHROMA_API_KEYS_FILE: the file: expected JSON")

    with pytest.raises(SystemExit) as ended:
        run_process(Quiet, serve)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].endswith("cannot serve: CHROMA_API_KEYS_FILE: the file: expected JSON")


@pytest.mark.parametrize("taken", ["listen", "health_listen", "metrics_listen"])
def test_a_taken_port_ends_the_process_with_one_clear_line(taken: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        address = f"127.0.0.1:{occupant.getsockname()[1]}"

        async def serve(settings: Quiet) -> None:
            server = Server(settings.model_copy(update={taken: address}))
            try:
                await server.start()
            finally:
                await server.grpc.stop(0)

        with pytest.raises(SystemExit) as ended:
            run_process(Quiet, serve)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert f"cannot serve: cannot listen on {address}" in said.splitlines()[-1]
    assert "FailedPrecondition" not in said, "a traceback of the error"


def test_a_bad_setting_ends_the_process_before_it_serves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(settings: Quiet) -> None:
        raise AssertionError("served in spite of a bad setting")

    monkeypatch.setenv("CHROMA_DRAIN_S", "soon")
    with pytest.raises(SystemExit) as ended:
        run_process(Quiet, serve)
    assert ended.value.code == 2
    assert "CHROMA_DRAIN_S" in capsys.readouterr().err
