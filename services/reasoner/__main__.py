"""The reasoner process: `python -m services.reasoner`."""

from __future__ import annotations

from functools import partial

from chroma.v1 import reasoner_pb2, reasoner_pb2_grpc
from chroma.v1.checkpoint_pb2 import CheckpointCard
from services.common.memory import check_memory
from services.common.process import LoadedModel, run_process, serve_model
from services.common.telemetry.engine_metrics import Capacity, EngineMetrics
from services.reasoner.model.prompt import ChatTemplate
from services.reasoner.model.weights import load_thinker
from services.reasoner.runner import ThinkRunner
from services.reasoner.servicer import ReasonerServicer, ThinkEngine
from services.reasoner.settings import ReasonerSettings
from services.runtime.checkpoint.card import read_card
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.dtypes import DTYPES
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.device import prepare_device
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.pages import PAGE_SIZE
from services.runtime.layers.linear import check_product


def load(settings: ReasonerSettings) -> LoadedModel[ThinkEngine, ReasonerServicer]:
    """The model on its device, after a forward pass there, with its engine and its servicer."""
    checkpoint = Checkpoint.open(settings.model)
    tokenizer = Tokenizer.from_checkpoint(checkpoint)
    card = read_card(checkpoint.path)
    tokens = ChromaConfig.from_dict(checkpoint.config).tokens
    template = ChatTemplate(tokenizer, audio_id=tokens.audio, im_end_id=tokens.im_end)  # may fail: before the weights
    weights = checkpoint.weight_format(settings.weights)
    check_memory(
        settings.service, checkpoint.path, dtype=settings.dtype, weights_format=weights, device=settings.device
    )
    check_product(weights, DTYPES[settings.dtype], settings.device)
    thinker = load_thinker(checkpoint, dtype=DTYPES[settings.dtype], device=settings.device, weights=weights)
    max_positions = min(settings.max_positions, thinker.config.max_positions)
    pages_each = -(-max_positions // PAGE_SIZE)
    kv = PagedKV(
        thinker.config,
        slots=2 * settings.slots,  # half of them for passes of low priority
        pages=settings.kv_pages or max(pages_each, settings.slots * pages_each // 4),
        dtype=DTYPES[settings.dtype],
        device=settings.device,
        max_positions=max_positions,
    )
    runner = ThinkRunner(
        thinker,
        tokenizer,
        kv,
        max_thoughts=settings.max_thoughts,
        max_prefill=settings.prefill_positions,
        low_priority_slots=settings.slots,
    )
    runner.warm_up()
    engine = ThinkEngine("reasoner", runner, observer=observe(runner, settings.slots))
    servicer = ReasonerServicer(
        engine,
        runner,
        template,
        system_prompt=settings.system_prompt or None,
        vocab_size=thinker.embedding.shape[0],
        max_audio_s=settings.max_audio_s,
        checkpoint_fingerprint=checkpoint.fingerprint,
    )
    return LoadedModel(
        engine,
        servicer,
        checkpoint.fingerprint,
        settings.dtype,
        settings.slots,
        weights=weights,
        weights_fingerprint=checkpoint.weights_fingerprint(weights),
        renders_tools=template.tools is not None,
        card=None if card is None else CheckpointCard(**card.model_dump()),
        positions=runner.max_positions,
    )


def observe(runner: ThinkRunner, slots: int) -> EngineMetrics:
    """The engine's metrics, with what the runner knows. `slots`: those of turns that are not of low priority."""
    kv, counters = runner.kv, runner.counters
    metrics = EngineMetrics("reasoner")
    metrics.show_slots("think", Capacity(slots, runner.free_slots))
    metrics.show_kv_pages(Capacity(kv.pages, lambda: kv.free_pages), kept=lambda: runner.prefixes.pages)
    metrics.show_prompt_rows(computed=lambda: counters.computed_tokens, cached=lambda: counters.cached_tokens)
    metrics.show_redone_chunks(lambda: counters.recomputed_chunks)
    metrics.show_preemptions(lambda: counters.preemptions)
    return metrics


if __name__ == "__main__":
    run_process(
        ReasonerSettings,
        partial(
            serve_model,
            load=load,
            service=reasoner_pb2.DESCRIPTOR.services_by_name["ReasonerService"],
            add_to_server=reasoner_pb2_grpc.add_ReasonerServiceServicer_to_server,
            prepare_device=prepare_device,
        ),
    )
