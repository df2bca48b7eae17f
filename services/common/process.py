"""How every process runs: settings, logs, one event loop, and a clear last line when it cannot serve.

`run_process` is common to all processes. `serve_model` is what the three model services do inside it: load, listen,
start the engine, watch it, serve until a signal or the engine's failure, drain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.descriptor import ServiceDescriptor

from chroma.v1.checkpoint_pb2 import CheckpointCard
from services.common.errors import BadSetting, ChromaError, Unavailable
from services.common.rpc.checkpoint import serve_checkpoint
from services.common.rpc.server import Server
from services.common.settings import ModelSettings, SettingsT, read_settings
from services.common.telemetry.engine_metrics import show_phase_age
from services.common.telemetry.logs import configure_logs
from services.common.telemetry.otlp import start_export
from services.common.telemetry.process_metrics import announce_checkpoint

log = logging.getLogger(__name__)

WATCH_EVERY_S = 0.25
"""How often the engine's heartbeat is read."""

FAILED_ENGINE_GRACE_S = 5.0
"""How long the calls of a failed engine may take to hand their callers the error."""

ModelSettingsT = TypeVar("ModelSettingsT", bound=ModelSettings)


class ServedEngine(Protocol):
    """What a model service does with its engine (services/runtime/engine/engine.py)."""

    @property
    def failure(self) -> str | None:
        """Why the engine ended without being stopped; None as long as it has not."""

    def busy(self) -> tuple[str, float]:
        """The phase that runs now and the seconds since it began; ("", 0.0) while the engine waits for work."""
        ...

    def start(self) -> None:
        """Start the engine thread."""

    def stop(self) -> None:
        """End every stream and the thread."""


EngineT = TypeVar("EngineT", bound=ServedEngine)
ServicerT = TypeVar("ServicerT")


@dataclass(frozen=True)
class LoadedModel(Generic[EngineT, ServicerT]):
    """A model on its device, after a forward pass there, ready to be served."""

    engine: EngineT
    servicer: ServicerT
    """The service's gRPC servicer over the engine."""
    fingerprint: str
    """Of the checkpoint."""
    dtype: str
    """In which the model computes."""
    slots: int
    """How many streams of a turn the engine serves at once."""
    weights: str = "as-stored"
    """The format of the weights of linear layers."""
    weights_fingerprint: str = ""
    """Of the weights as they are served. Empty: they are the checkpoint's."""
    renders_tools: bool = False
    """Whether the checkpoint's chat template renders tools, as far as the service reads it."""
    card: CheckpointCard | None = None
    """What the checkpoint says of itself, as far as the service reads it."""
    positions: int = 0
    """How many positions a turn may have. 0: the service does not tell."""


def run_process(
    settings_type: type[SettingsT], serve: Callable[[SettingsT], Awaitable[None]], *, number: int = 0
) -> None:
    """Read the settings and run `serve` until it returns. `number`: of this process, where a service has several; its
    log lines then have it. Exits 2 on a bad setting or a bad file that one names, and 1 on another domain error, whose
    message is the last line of the log."""
    settings = read_settings(settings_type)
    configure_logs(settings.log_level, settings.log_format, settings.service, number)

    async def main() -> None:
        await serve(settings)

    with ExitStack() as at_end:
        try:
            if settings.otlp_endpoint:
                at_end.callback(start_export(settings.otlp_endpoint, settings.service))
            asyncio.run(main())
        except ChromaError as error:
            log.error("cannot serve: %s", error.message)
            raise SystemExit(2 if isinstance(error, BadSetting) else 1) from None


async def serve_model(
    settings: ModelSettingsT,
    *,
    load: Callable[[ModelSettingsT], LoadedModel[Any, Any]],
    service: ServiceDescriptor,
    add_to_server: Callable[[Any, Any], None],
    prepare_device: Callable[[str, int], None],
) -> None:
    """Load, listen, serve until a signal or the engine's failure, drain.

    Args:
        load: makes the model, its engine (not started) and its servicer. Runs on a thread of its own.
        service: the descriptor of the gRPC service.
        add_to_server: the generated function that adds the servicer to a server.
        prepare_device: takes the device and the threads of a CPU forward pass; raises a domain error for a device that
            cannot be used.

    Raises Unavailable when the engine failed, so that the process ends and is started again.
    """

    def prepare() -> LoadedModel[Any, Any]:
        prepare_device(settings.device, settings.threads)
        return load(settings)

    model = await asyncio.to_thread(prepare)
    log.info("warm: the model is on %s in %s, weights %s", settings.device, model.dtype, model.weights)
    served_weights = {
        "weights": model.weights,
        "weights_fingerprint": model.weights_fingerprint or model.fingerprint,
    }
    announce_checkpoint(
        settings.service,
        fingerprint=model.fingerprint,
        dtype=model.dtype,
        device=settings.device,
        **served_weights,
    )
    show_phase_age(settings.service, lambda: model.engine.busy()[1])
    server = Server(settings)
    add_to_server(model.servicer, server.grpc)
    serve_checkpoint(
        server.grpc,
        model.fingerprint,
        model.slots,
        renders_tools=model.renders_tools,
        card=model.card,
        positions=model.positions,
        **served_weights,
    )
    server.register(service.full_name)
    await server.start()
    model.engine.start()
    await server.set_serving()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch_engine(model.engine, server, settings.engine_stall_s))
        await server.run_until_signal()
        watching.cancel()
    failure = model.engine.failure
    await asyncio.to_thread(model.engine.stop)
    if failure is not None:
        raise Unavailable(f"the engine has stopped: {failure}")


async def watch_engine(engine: ServedEngine, server: Server, stall_s: float) -> None:
    """Make health follow the engine's heartbeat, and make the server stop when the engine has failed.

    A phase that takes longer than `stall_s` seconds stalls the server until the phase ends.
    """
    stalled = False
    while engine.failure is None:
        phase, seconds = engine.busy()
        if stalled != (seconds > stall_s):
            stalled = not stalled
            if stalled:
                log.error("the engine has been in its phase `%s` for %.1f s: not serving until it ends", phase, seconds)
            else:
                log.warning("the engine goes on: serving again")
            await server.set_stalled(stalled)
        await asyncio.sleep(WATCH_EVERY_S)
    await server.set_stalled(True)
    server.stop_soon(FAILED_ENGINE_GRACE_S)
