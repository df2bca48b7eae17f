"""The depth decoder against transformers' Llama over the whole frame at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaModel

from services.runtime.checkpoint.checkpoint import Checkpoint
from services.speech_gen.model.generator import Generator
from tests.support.golden_speech import CHECKPOINT, golden_config


def reference_logits(hidden: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Logits of codebooks 1 to 7 with the frame's codes given: hidden [W, D], codes [W, 8] -> [W, 7, 2048]."""
    checkpoint, config = Checkpoint.open(CHECKPOINT), golden_config().decoder
    model = LlamaModel(
        LlamaConfig(
            vocab_size=1,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            intermediate_size=config.ffn_width,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope.theta},
        )
    ).eval()
    prefix = "decoder.model."
    weights = {name.removeprefix(prefix): checkpoint.tensor(name) for name in checkpoint.names(prefix)}
    model.load_state_dict(weights, strict=False)
    table = checkpoint.tensor("decoder.audio_embedding.embed_audio_tokens.weight")
    embedded = table[codes[:, :7] + 2051 * torch.arange(7)]
    rows = F.linear(torch.cat([hidden[:, None], embedded], 1), checkpoint.tensor("decoder.projection.weight"))
    positions = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6]).expand(len(codes), -1)
    with torch.inference_mode():
        out = model(inputs_embeds=rows, position_ids=positions, attention_mask=causal(len(codes))).last_hidden_state
    heads = checkpoint.tensor("decoder.codebook_head.weight")
    return torch.einsum("wkd,kdv->wkv", out[:, 1:], heads[:, :, :2048])


def causal(streams: int) -> torch.Tensor:
    """An explicit mask, so that repeated positions are not taken for packed sequences."""
    return torch.full((8, 8), -torch.inf).triu(1).expand(streams, 1, -1, -1)


def test_step_by_step_equals_the_whole_frame_for_any_number_of_streams(generator: Generator) -> None:
    noise = torch.Generator().manual_seed(0)
    for streams in (1, 3, 16, 2):
        hidden = torch.randn(streams, 48, generator=noise)
        codes = torch.randint(0, 2048, (streams, 8), generator=noise)
        expected = reference_logits(hidden, codes)
        for codebook in range(1, 8):
            logits = generator.decoder.logits(codebook, hidden, codes[:, codebook - 1])
            torch.testing.assert_close(logits, expected[:, codebook - 1], rtol=0, atol=1e-4)
