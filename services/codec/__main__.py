"""The codec process: `python -m services.codec`."""

from __future__ import annotations

import asyncio
import logging

import torch

from chroma.v1 import codec_pb2, codec_pb2_grpc
from services.codec.model.mimi import Mimi
from services.codec.runner import CodecRunner
from services.codec.servicer import CodecEngine, CodecServicer
from services.codec.settings import CodecSettings
from services.common.process import run_process
from services.common.rpc.server import Server
from services.common.telemetry.engine_metrics import Capacity, EngineMetrics
from services.common.telemetry.process_metrics import announce_checkpoint
from services.runtime.checkpoint.checkpoint import Checkpoint


async def serve(settings: CodecSettings) -> None:
    """Listen, load, warm up, serve until a signal, drain."""
    server = Server(settings)
    name = codec_pb2.DESCRIPTOR.services_by_name["CodecService"].full_name
    server.register(name)
    runner = await asyncio.to_thread(load, settings)
    engine = CodecEngine("codec", runner, observer=observe(runner, settings))
    codec_pb2_grpc.add_CodecServiceServicer_to_server(
        CodecServicer(engine, max_encode_s=settings.max_encode_s), server.grpc
    )
    await server.start()
    engine.start()
    await server.set_serving()
    await server.run_until_signal()
    engine.stop()


def load(settings: CodecSettings) -> CodecRunner:
    """The model on its device, after a forward pass there."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    checkpoint = Checkpoint.open(settings.model)
    mimi = Mimi.load(checkpoint, device=settings.device)
    runner = CodecRunner(mimi, decode_slots=settings.slots, encode_slots=settings.encode_slots)
    runner.warm_up()
    logging.getLogger(__name__).info("warm: %d decode slots on %s", settings.slots, settings.device)
    announce_checkpoint("codec", fingerprint=checkpoint.fingerprint, dtype="float32", device=settings.device)
    return runner


def observe(runner: CodecRunner, settings: CodecSettings) -> EngineMetrics:
    """The engine's metrics, with what the runner knows."""
    metrics = EngineMetrics("codec")
    metrics.show_slots("decode", Capacity(settings.slots, lambda: runner.free_decode_slots))
    metrics.show_slots("encode", Capacity(settings.encode_slots, lambda: runner.free_encode_slots))
    metrics.show_frames(lambda: runner.decoded_frames)
    return metrics


if __name__ == "__main__":
    run_process(CodecSettings, serve)
