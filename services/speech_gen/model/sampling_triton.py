"""`choose` of sampling.py as one CUDA kernel, without sorting.

One program computes one stream's code. Each code gets a unique integer key, larger for a likelier code and, among equal
logits, for the lower code. Top-k, top-p and the draw each need the key at which a count or a sum of weights crosses a
bound. They find it by binary search over the keys. The sums are float32 in another order than a cumulative sum's, so a
draw within rounding of a bound may give the neighbouring code.
"""

# ruff: noqa: N803
# Triton declares a constant of compilation as `constexpr` and takes an int for it; only Linux has its wheels.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportIndexIssue=false
# pyright: reportMissingImports=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def choose_code(logits, greedy, temperature, top_k, top_p, uniform, stream, VOCAB: tl.constexpr, BLOCK: tl.constexpr):
    """The code that stream number `stream` chooses from its logits [VOCAB], and whether all logits are finite.

    `uniform` points to its random number.
    """
    code = tl.arange(0, BLOCK)
    real = code < VOCAB
    logit = tl.load(logits + code, mask=real, other=-float("inf"))
    highest = tl.max(logit, axis=0)
    chosen = tl.min(tl.where(logit == highest, code, VOCAB - 1), axis=0)
    if tl.load(greedy + stream) == 0:
        bits = (logit + 0.0).to(tl.int32, bitcast=True)  # -0 becomes 0
        ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        key = ordered.to(tl.int64) * BLOCK + (BLOCK - 1 - code)
        weight = tl.where(real, tl.exp((logit - highest) / tl.load(temperature + stream)), 0.0)
        above = tl.max(key, axis=0) + 1

        candidates = tl.minimum(tl.load(top_k + stream), VOCAB).to(tl.int32)
        least, beyond = tl.min(key, axis=0), above
        while beyond - least > 1:  # `candidates` keys or more are >= `least`, fewer are >= `beyond`
            middle = least + (beyond - least) // 2
            enough = tl.sum((real & (key >= middle)).to(tl.int32), axis=0) >= candidates
            least, beyond = tl.where(enough, middle, least), tl.where(enough, beyond, middle)
        weight = tl.where(key >= least, weight, 0.0)

        part = tl.load(top_p + stream)
        if part < 1.0:
            share = part * tl.sum(weight, axis=0)
            beyond = above
            while beyond - least > 1:  # keys >= `least` hold the share, keys >= `beyond` less
                middle = least + (beyond - least) // 2
                enough = tl.sum(tl.where(key >= middle, weight, 0.0), axis=0) >= share
                least, beyond = tl.where(enough, middle, least), tl.where(enough, beyond, middle)

        drawn = tl.load(uniform) * tl.sum(tl.where(key >= least, weight, 0.0), axis=0)
        beyond = above
        while beyond - least > 1:  # keys >= `least` hold more than `drawn`, keys >= `beyond` do not
            middle = least + (beyond - least) // 2
            enough = tl.sum(tl.where(key >= middle, weight, 0.0), axis=0) > drawn
            least, beyond = tl.where(enough, middle, least), tl.where(enough, beyond, middle)
        chosen = tl.minimum(BLOCK - 1 - (least & (BLOCK - 1)).to(tl.int32), VOCAB - 1)
    unreal = (logit != logit) | (logit == float("inf")) | (logit == -float("inf"))  # NaN is unequal to itself
    return chosen, tl.sum((real & unreal).to(tl.int32), axis=0) == 0


@triton.jit(do_not_specialize=["codebook"])
def _choose(
    logits, greedy, temperature, top_k, top_p, uniforms, finite, codes, codebook,
    CODEBOOKS: tl.constexpr, VOCAB: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    at = row * CODEBOOKS + codebook
    chosen, is_finite = choose_code(
        logits + row * VOCAB, greedy, temperature, top_k, top_p, uniforms + at, row, VOCAB, BLOCK
    )
    tl.store(codes + row, chosen.to(tl.int64))
    tl.store(finite + at, is_finite.to(tl.uint8))


def choose_codes(
    logits: Tensor,
    greedy: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    uniforms: Tensor,
    finite: Tensor,
    codebook: int,
) -> Tensor:
    """float32 logits [W, V] -> codes int64 [W]. The other tensors are those of `Choices`; `finite` is written."""
    streams, vocab = logits.shape
    assert all(x.is_contiguous() for x in (logits, uniforms, finite)), "tensors must be dense"
    codes = torch.empty(streams, dtype=torch.int64, device=logits.device)
    _choose[(streams,)](
        logits, greedy.view(torch.uint8), temperature, top_k, top_p, uniforms,
        finite.view(torch.uint8), codes, codebook,
        CODEBOOKS=uniforms.shape[1], VOCAB=vocab, BLOCK=triton.next_power_of_2(vocab),
    )  # fmt: skip
    return codes
