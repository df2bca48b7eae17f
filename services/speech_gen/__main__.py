"""The speech generator process: `python -m services.speech_gen`."""

from __future__ import annotations

from functools import partial

from chroma.v1 import speech_gen_pb2, speech_gen_pb2_grpc
from services.common.memory import check_memory
from services.common.process import LoadedModel, run_process, serve_model
from services.common.telemetry.engine_metrics import Capacity, EngineMetrics
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig, read_generation_config
from services.runtime.checkpoint.dtypes import DTYPES
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.device import prepare_device
from services.runtime.layers.linear import check_product
from services.speech_gen.model.voice import VoiceCache
from services.speech_gen.model.weights import load_generator
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.servicer import SpeechEngine, SpeechGenServicer
from services.speech_gen.settings import SpeechGenSettings


def load(settings: SpeechGenSettings) -> LoadedModel[SpeechEngine, SpeechGenServicer]:
    """The model on its device, after a forward pass there, with its engine and its servicer."""
    checkpoint = Checkpoint.open(settings.model)
    weights = checkpoint.weight_format(settings.weights)
    check_memory(
        settings.service, checkpoint.path, dtype=settings.dtype, weights_format=weights, device=settings.device
    )
    check_product(weights, DTYPES[settings.dtype], settings.device)
    generator = load_generator(
        checkpoint,
        slots=settings.slots,
        kv_pages=settings.kv_pages or None,
        dtype=DTYPES[settings.dtype],
        device=settings.device,
        weights=weights,
    )
    tokenizer = Tokenizer.from_checkpoint(checkpoint)
    runner = SpeechRunner(
        generator,
        tokenizer,
        chunk_positions=settings.prefill_positions,
        shared_prompts=settings.shared_prompts,
        max_load=settings.load_limit,
    )
    runner.warm_up()
    voices = VoiceCache(settings.voice_cache, settings.voice_cache_bytes)
    defaults = settings.sampling_defaults(read_generation_config(checkpoint.generation_config))
    engine = SpeechEngine("speech-gen", runner, observer=observe(runner, voices))
    servicer = SpeechGenServicer(
        engine,
        runner,
        tokenizer,
        token_ids=ChromaConfig.from_dict(checkpoint.config).tokens,
        defaults=defaults,
        checkpoint_fingerprint=checkpoint.fingerprint,
        voices=voices,
        max_lead_s=settings.max_lead_s,
        max_reply_s=settings.max_reply_s,
    )
    return LoadedModel(
        engine,
        servicer,
        checkpoint.fingerprint,
        settings.dtype,
        settings.slots,
        weights=weights,
        weights_fingerprint=checkpoint.weights_fingerprint(weights),
    )


def observe(runner: SpeechRunner, voices: VoiceCache) -> EngineMetrics:
    """The engine's metrics, with what the runner and the voice cache know."""
    kv, counters = runner.generator.kv, runner.counters
    metrics = EngineMetrics("speech_gen")
    metrics.show_slots("speak", Capacity(kv.slots, lambda: kv.free_slots))
    metrics.show_kv_pages(Capacity(kv.pages, lambda: kv.free_pages), kept=lambda: runner.shared_prompts.pages)
    metrics.show_prompt_rows(computed=lambda: counters.prompt_positions, cached=lambda: counters.shared_positions)
    metrics.show_frames(lambda: counters.frames)
    metrics.show_voice_prompts(lambda: len(voices), lambda: voices.size_bytes)
    return metrics


if __name__ == "__main__":
    run_process(
        SpeechGenSettings,
        partial(
            serve_model,
            load=load,
            service=speech_gen_pb2.DESCRIPTOR.services_by_name["SpeechGenService"],
            add_to_server=speech_gen_pb2_grpc.add_SpeechGenServiceServicer_to_server,
            prepare_device=prepare_device,
        ),
    )
