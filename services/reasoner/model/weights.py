"""Reading the reasoner's own tensors: text model, lm_head and audio tower (docs/model.md, section 8)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from services.reasoner.model.audio_tower import AudioTower
from services.reasoner.model.mel import MelFilters
from services.reasoner.model.thinker import Thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import AudioTowerConfig, ChromaConfig
from services.runtime.checkpoint.mapped_memory import free_unused, page_out
from services.runtime.checkpoint.quantized import QuantizedWeight, WeightFormat, tensors_of
from services.runtime.checkpoint.weights import Weights
from services.runtime.layers.fused_stack import use_fused_kernels
from services.runtime.layers.linear import Linear
from services.runtime.layers.quantized_cpu import for_many_rows
from services.runtime.layers.transformer import load_stack


def load_thinker(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    weights: WeightFormat = "as-stored",
) -> Thinker:
    """The thinker, which computes in `dtype` (float32 or bfloat16); the mel stays in float32.

    `weights` is the format of the linear layers. Raises `CheckpointError` when a tensor is missing or has another shape
    than config.json says, or when the checkpoint or the device does not fit to the format.
    """
    config = ChromaConfig.from_dict(checkpoint.config)
    text, vocab_size = config.thinker.text, config.thinker.vocab_size
    tensors = Weights(checkpoint, dtype, device, format=weights).below("thinker")
    tower = _load_tower(tensors.below("audio_tower"), config.thinker.audio)
    head = _load_head(tensors, vocab_size, text.width)
    free_unused()
    stack = load_stack(tensors.below("model"), text)
    use_fused_kernels(stack)
    return Thinker(
        stack=stack,
        embedding=replace(tensors, device="cpu").read("model.embed_tokens.weight", vocab_size, text.width),
        head=head,
        tower=tower,
        mel=MelFilters(config.thinker.audio.mel_bins, device),
        tokens=config.tokens,
    )


def _load_head(tensors: Weights, outputs: int, inputs: int) -> Linear:
    weight = tensors.matrix("lm_head.weight", outputs, inputs)
    head = Linear(weight, dtype=tensors.dtype)
    if head.packed:
        page_out(tensors_of(weight))
    return head


def _load_tower(tensors: Weights, config: AudioTowerConfig) -> AudioTower:
    """The audio tower. Quantised layers take the places of the modules that hold the others.

    A chunk has 50 rows and more, so on a CPU weights in 4 bits are held in 8.
    """
    with torch.device("meta"):
        tower = AudioTower(config).eval()
    if tensors.is_quantized:
        for name, layer in list(tower.named_modules()):
            if isinstance(layer, nn.Linear):
                matrix = tensors.matrix(f"{name}.weight", layer.out_features, layer.in_features)
                bias = tensors.read(f"{name}.bias", layer.out_features) if isinstance(layer.bias, Tensor) else None
                owner, _, place = name.rpartition(".")
                delattr(tower.get_submodule(owner), place)
                assert isinstance(matrix, QuantizedWeight)
                setattr(tower.get_submodule(owner), place, Linear(for_many_rows(matrix), bias, dtype=tensors.dtype))
                page_out(tensors_of(matrix))
    tensors.fill(tower)
    return tower
