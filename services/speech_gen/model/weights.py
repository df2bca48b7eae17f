"""Reading the speech generator's tensors, and only those, out of a checkpoint. (docs/model.md, section 8)"""

from __future__ import annotations

from dataclasses import replace

import torch

from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.quantized import WeightFormat, output_rows
from services.runtime.checkpoint.quantized_layout import CODEBOOK_HEADS
from services.runtime.checkpoint.weights import Weights
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.pages import PAGE_SIZE
from services.runtime.layers.fused_stack import use_fused_kernels
from services.runtime.layers.linear import Linear
from services.runtime.layers.transformer import load_stack
from services.speech_gen.model.backbone import Backbone
from services.speech_gen.model.depth_decoder import DepthDecoder
from services.speech_gen.model.depth_way import use_frame_kernel
from services.speech_gen.model.generator import Generator


def load_generator(
    checkpoint: Checkpoint,
    *,
    slots: int,
    kv_pages: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    weights: WeightFormat = "as-stored",
) -> Generator:
    """Backbone, depth decoder, both embedding tables and memory for `slots` streams.

    `kv_pages` defaults to what `slots` streams of full length need. `weights` is the format of the linear layers.
    Raises `CheckpointError`.
    """
    config = ChromaConfig.from_dict(checkpoint.config)
    width, codebooks, code_vocab = config.backbone.width, config.codebooks, config.code_vocab_size
    codebook_size = config.codec.codebook_size
    tensors = Weights(checkpoint, dtype, device, format=weights)
    audio_table = tensors.read(AUDIO_TABLE_NAMES[0], codebooks * code_vocab, width)
    text_table = replace(tensors, device="cpu").read(
        "thinker.model.embed_tokens.weight", config.thinker.vocab_size, width
    )
    codebook0_head = tensors.matrix("backbone.codebook0_head.weight", code_vocab, width)
    decoder_heads = tensors.codebook_heads(CODEBOOK_HEADS, codebooks - 1, config.decoder.width, code_vocab)
    projection = tensors.matrix("decoder.projection.weight", config.decoder.width, width)
    backbone = Backbone(
        load_stack(tensors.below("backbone.model"), config.backbone),
        text_table,
        audio_table,
        Linear(output_rows(codebook0_head, codebook_size), dtype=dtype),
        codebooks,
    )
    decoder = DepthDecoder(
        load_stack(tensors.below("decoder.model"), config.decoder),
        Linear(projection, dtype=dtype),
        audio_table,
        [Linear(output_rows(head, codebook_size), dtype=dtype) for head in decoder_heads],
        streams=slots,
    )
    use_fused_kernels(backbone.stack)
    use_frame_kernel(decoder)
    pages = kv_pages or slots * -(-config.backbone.max_positions // PAGE_SIZE)
    kv = PagedKV(config.backbone, slots=slots, pages=pages, dtype=dtype, device=device)
    return Generator(backbone, decoder, kv, eos=config.codebook_eos, im_end=config.tokens.im_end)
