"""A small depth decoder with random weights, and the inputs of a frame."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from services.common.sampling import SamplingParams
from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.checkpoint.quantized import WeightFormat, quantize
from services.runtime.layers.linear import Linear
from services.speech_gen.model.depth_decoder import DepthDecoder
from services.speech_gen.model.sampling import Choices, SamplingTable
from tests.support.kernels import DEVICE, noise
from tests.support.stacks import random_tensors, stack_of

CODE_VOCAB, CODES = 23, 20


def decoder_of(
    codebooks: int,
    *,
    layers: int = 1,
    heads: int = 2,
    head_dim: int = 8,
    width: int = 16,
    ffn: int = 16,
    dtype: torch.dtype = torch.float32,
    weights: WeightFormat = "as-stored",
    streams: int = 5,
) -> DepthDecoder:
    """A decoder with one kv head. Logits are about as large as hidden states."""
    config = StackConfig(layers, width, heads, 1, head_dim, ffn, 1e-6, False, RopeConfig(theta=1e4), 33)
    stack = stack_of(config, random_tensors(config), dtype=dtype, device=DEVICE, weights=weights)
    table = noise(1, codebooks * CODE_VOCAB, width).to(dtype)
    read = [noise(2 + number, CODES, width) for number in range(codebooks - 1)]
    if weights != "as-stored":
        bits = 8 if weights == "int8" else 4
        linears = [Linear(quantize(weight.cpu(), bits).to(DEVICE), dtype=dtype) for weight in read]
    else:
        linears = [Linear(weight.to(dtype)) for weight in read]
    projection = Linear((noise(9, width, width) / width**0.5).to(dtype))
    return DepthDecoder(stack, projection, table, linears, streams=streams)


def frame_inputs(decoder: DepthDecoder, streams: int, *, drawn: bool = False) -> tuple[Tensor, Tensor, Choices]:
    """Hidden states [W, width], codes [W, K] with codebook 0, and choices. Every second stream draws if `drawn`."""
    codebooks = len(decoder.heads) + 1
    table = SamplingTable(streams, codebooks, DEVICE)
    for slot in range(1, streams, 2) if drawn else ():
        table.set(slot, SamplingParams(seed=slot, top_k=5, top_p=0.9))
    uniforms = torch.from_numpy(table.uniforms(range(streams), np.zeros(streams, dtype=np.int64))).to(DEVICE)
    codes = torch.zeros(streams, codebooks, dtype=torch.int64, device=DEVICE)
    codes[:, 0] = torch.arange(streams) * 4 + 1
    choices = table.choices(torch.arange(streams, device=DEVICE), uniforms, CODES)
    return noise(5, streams, decoder.projection.in_features).to(decoder.stack.dtype), codes, choices


def teacher_forced(decoder: DepthDecoder, hidden: Tensor, codes: Tensor) -> Tensor:
    """PyTorch's logits of codebooks 1 to K - 1 for given codes: float32 [K - 1, W, V]."""
    return torch.stack([decoder.logits(each, hidden, codes[:, each - 1]) for each in range(1, codes.shape[1])])
