"""The codec process: `python -m services.codec`."""

from __future__ import annotations

from functools import partial

from chroma.v1 import codec_pb2, codec_pb2_grpc
from services.codec.model.mimi import Mimi
from services.codec.runner import CodecRunner
from services.codec.servicer import CodecEngine, CodecServicer
from services.codec.settings import CodecSettings
from services.common.memory import check_memory
from services.common.process import LoadedModel, run_process, serve_model
from services.common.telemetry.engine_metrics import Capacity, EngineMetrics
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.device import prepare_device


def load(settings: CodecSettings) -> LoadedModel[CodecEngine, CodecServicer]:
    """The model on its device, after a forward pass there, with its engine and its servicer."""
    checkpoint = Checkpoint.open(settings.model)
    check_memory(settings.service, checkpoint.path, dtype="float32", weights_format="as-stored", device=settings.device)
    mimi = Mimi.load(checkpoint, device=settings.device)
    runner = CodecRunner(mimi, decode_slots=settings.slots, encode_slots=settings.encode_slots)
    runner.warm_up()
    engine = CodecEngine("codec", runner, observer=observe(runner, settings))
    servicer = CodecServicer(engine, max_encode_s=settings.max_encode_s, checkpoint_fingerprint=checkpoint.fingerprint)
    return LoadedModel(engine, servicer, checkpoint.fingerprint, dtype="float32", slots=settings.slots)


def observe(runner: CodecRunner, settings: CodecSettings) -> EngineMetrics:
    """The engine's metrics, with what the runner knows."""
    metrics = EngineMetrics("codec")
    metrics.show_slots("decode", Capacity(settings.slots, lambda: runner.free_decode_slots))
    metrics.show_slots("encode", Capacity(settings.encode_slots, lambda: runner.free_encode_slots))
    metrics.show_frames(lambda: runner.decoded_frames)
    return metrics


if __name__ == "__main__":
    run_process(
        CodecSettings,
        partial(
            serve_model,
            load=load,
            service=codec_pb2.DESCRIPTOR.services_by_name["CodecService"],
            add_to_server=codec_pb2_grpc.add_CodecServiceServicer_to_server,
            prepare_device=prepare_device,
        ),
    )
