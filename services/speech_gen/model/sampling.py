"""Choosing codes from logits: the likeliest, or drawn by temperature, top-k and top-p with the stream's own seed.

The random number of a draw depends only on the stream's seed, the frame's number and the codebook. So the other streams
of the batch and the order of steps change no code. (docs/model.md, section 4; top-p is our extension, the reference
ignores it)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.common.sampling import SamplingParams
from services.runtime.layers.fused import uses_kernels

_STRIDE = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Choices:
    """How each of a step's W streams chooses its codes.

    `most_k` is at least the largest top_k of the streams that draw, 0 when all are greedy: without a kernel, so many
    codes are sorted. `choose` notes in `finite` whether a stream's logits of a codebook were numbers; where they were
    not, its code is an arbitrary one.
    """

    greedy: Tensor  # bool [W]
    temperature: Tensor  # float32 [W, 1]
    top_k: Tensor  # int64 [W, 1]
    top_p: Tensor  # float32 [W, 1]
    uniforms: Tensor  # float32 [W, K], in [0, 1)
    finite: Tensor  # bool [W, K]
    most_k: int


class SamplingTable:
    """The sampling parameters of every slot, on the device. A slot that was never set is greedy."""

    def __init__(self, slots: int, codebooks: int, device: torch.device | str) -> None:
        self.codebooks = codebooks
        self._greedy = torch.ones(slots, dtype=torch.bool, device=device)
        self._temperature = torch.ones(slots, 1, device=device)
        self._top_k = torch.ones(slots, 1, dtype=torch.int64, device=device)
        self._top_p = torch.ones(slots, 1, device=device)
        self._seeds = np.zeros(slots, dtype=np.uint64)
        self._candidates = np.zeros(slots, dtype=np.int64)

    def set(self, slot: int, sampling: SamplingParams) -> None:
        """Choose codes by `sampling` in `slot`, from its next frame on."""
        self._greedy[slot] = sampling.greedy
        self._temperature[slot] = sampling.temperature
        self._top_k[slot] = sampling.top_k
        self._top_p[slot] = sampling.top_p
        self._seeds[slot] = sampling.seed
        self._candidates[slot] = 0 if sampling.greedy else sampling.top_k

    def most_k(self, slots: Sequence[int]) -> int:
        """The largest top_k among the streams in `slots`, 0 when all are greedy."""
        return int(self._candidates[slots].max())

    def uniforms(self, slots: Sequence[int], frames: np.ndarray) -> np.ndarray:
        """Random numbers of the streams in `slots` for their frames number `frames` [W]: float32 [W, K] in [0, 1)."""
        return uniforms(self._seeds[slots], frames, self.codebooks)

    def choices(self, slots: Tensor, uniforms: Tensor, most_k: int) -> Choices:
        """The choices of the streams in `slots`, int64 [W] on the device, with their `uniforms` on the device."""
        return Choices(
            greedy=self._greedy.index_select(0, slots),
            temperature=self._temperature.index_select(0, slots),
            top_k=self._top_k.index_select(0, slots),
            top_p=self._top_p.index_select(0, slots),
            uniforms=uniforms,
            finite=torch.ones(len(slots), self.codebooks, dtype=torch.bool, device=slots.device),
            most_k=most_k,
        )


def choose(logits: Tensor, choices: Choices, codebook: int) -> Tensor:
    """float32 logits [W, V] -> codes int64 [W] of codebook number `codebook`.

    On CUDA, codes of equal logits are ordered by code; elsewhere their order is that of `torch.topk`.
    """
    if uses_kernels(logits):
        from services.speech_gen.model.sampling_triton import choose_codes

        return choose_codes(
            logits,
            choices.greedy,
            choices.temperature,
            choices.top_k,
            choices.top_p,
            choices.uniforms,
            choices.finite,
            codebook,
        )
    choices.finite[:, codebook] = logits.isfinite().all(dim=-1)
    likeliest = logits.argmax(dim=-1)
    if choices.most_k == 0:
        return likeliest
    values, codes = logits.topk(min(choices.most_k, logits.shape[-1]), dim=-1)
    weights = ((values - values[:, :1]) / choices.temperature).exp()
    ranks = torch.arange(weights.shape[-1], device=logits.device)
    # Sums run from the likeliest code on, so codes that only another stream's larger top_k includes change nothing.
    cumulative = weights.masked_fill(ranks >= choices.top_k, 0.0).cumsum(dim=-1)
    before = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative[:, :-1]], dim=-1)
    kept = (before < choices.top_p * cumulative[:, -1:]) & (ranks < choices.top_k)
    last_kept = (kept.sum(dim=-1, keepdim=True) - 1).clamp(min=0)  # none is kept of logits that are not numbers
    target = choices.uniforms[:, codebook : codebook + 1] * cumulative.gather(-1, last_kept)
    rank = torch.minimum((cumulative <= target).sum(dim=-1, keepdim=True), last_kept)
    return torch.where(choices.greedy, likeliest, codes.gather(-1, rank).squeeze(-1))


def uniforms(seeds: np.ndarray, frames: np.ndarray, codebooks: int) -> np.ndarray:
    """Numbers in [0, 1), float32 [W, K], hashed from (seed, frame, codebook). `seeds` uint64 [W], `frames` [W]."""
    of_stream = _scramble(seeds)
    of_frame = _scramble(of_stream + (frames.astype(np.uint64) + np.uint64(1)) * _STRIDE)
    codebook = np.arange(1, codebooks + 1, dtype=np.uint64) * _STRIDE
    bits = _scramble(of_frame[:, None] + codebook)
    return ((bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)).astype(np.float32)


def _scramble(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64, in which every input bit changes every output bit with equal chance."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))
