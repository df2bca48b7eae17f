"""Reading the reasoner's own tensors: text model, lm_head and audio tower (docs/model.md, section 8)."""

from __future__ import annotations

import torch

from services.reasoner.model.audio_tower import AudioTower
from services.reasoner.model.mel import MelFilters
from services.reasoner.model.thinker import Thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.mapped_memory import page_out
from services.runtime.checkpoint.weights import Weights
from services.runtime.layers.fused_stack import use_fused_kernels
from services.runtime.layers.linear import Linear
from services.runtime.layers.transformer import load_stack


def load_thinker(checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Thinker:
    """The thinker in `dtype` (float32 or bfloat16); the mel stays in float32.

    Raises `CheckpointError` when a tensor is missing or has another shape than config.json says.
    """
    config = ChromaConfig.from_dict(checkpoint.config)
    text, vocab_size = config.thinker.text, config.thinker.vocab_size
    weights = Weights(checkpoint, dtype, device).below("thinker")
    with torch.device("meta"):
        tower = AudioTower(config.thinker.audio).eval()
    weights.below("audio_tower").fill(tower)
    head_weight = weights.read("lm_head.weight", vocab_size, text.width)
    head = Linear(head_weight)
    if head.packed:
        page_out([head_weight])
    stack = load_stack(weights.below("model"), text)
    use_fused_kernels(stack)
    return Thinker(
        stack=stack,
        embedding=weights.read("model.embed_tokens.weight", vocab_size, text.width),
        head=head,
        tower=tower,
        mel=MelFilters(config.thinker.audio.mel_bins, device),
        tokens=config.tokens,
    )
