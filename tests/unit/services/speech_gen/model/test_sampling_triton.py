"""The sampling kernel chooses the codes that PyTorch's operations choose, for any mix of streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from services.speech_gen.model import sampling
from services.speech_gen.model.sampling import Choices, choose
from tests.support.kernels import DEVICE, NEEDS_KERNELS, noise

pytestmark = NEEDS_KERNELS

STREAMS, CODEBOOKS = 16, 8


def choices(seed: int, vocab: int) -> Choices:
    """Streams of every kind: greedy or not, low to high temperatures, any number and any share of candidates."""
    dice = np.random.default_rng(seed)

    def column(values: list[float], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(dice.choice(values, (STREAMS, 1))).to(DEVICE, dtype)

    return Choices(
        greedy=torch.from_numpy(dice.random(STREAMS) < 0.2).to(DEVICE),
        temperature=column([0.3, 0.7, 1.0, 2.5], torch.float32),
        top_k=column([1, 2, 7, 50, vocab - 1, vocab, 5000], torch.int64),
        top_p=column([1e-6, 0.3, 0.9, 1.0], torch.float32),
        uniforms=torch.from_numpy(dice.random((STREAMS, CODEBOOKS), dtype=np.float32)).to(DEVICE),
        finite=torch.ones(STREAMS, CODEBOOKS, dtype=torch.bool, device=DEVICE),
        most_k=vocab,
    )


def chosen_in_order(logits: Tensor, how: Choices, codebook: int) -> list[set[int]]:
    """The codes that are right for each stream, computed in float64.

    Equal logits are ordered by code. Random numbers may differ by 1e-5 and shares by 1e-6, for rounding.
    """
    found: list[set[int]] = []
    for row in range(len(logits)):
        values, codes = logits[row].double().cpu().sort(descending=True, stable=True)
        if how.greedy[row]:
            found.append({int(codes[0])})
            continue
        k = min(int(how.top_k[row]), len(codes))
        weights = ((values[:k] - values[0]) / how.temperature[row].double().cpu()).exp()
        cumulative = weights.cumsum(0)
        before = cumulative - weights
        may: set[int] = set()
        for p in (-1e-6, 0.0, 1e-6):
            kept = int((before < (float(how.top_p[row]) + p) * cumulative[-1]).sum().clamp(min=1))
            for u in (-1e-5, 0.0, 1e-5):
                target = (float(how.uniforms[row, codebook]) + u) * cumulative[kept - 1]
                may.add(int(codes[min(int((cumulative <= target).sum()), kept - 1)]))
        found.append(may)
    return found


@pytest.mark.parametrize("vocab", [64, pytest.param(300, marks=pytest.mark.slow), 2048])
@pytest.mark.parametrize("ties", [False, True])
def test_codes_are_those_of_the_ordered_distribution(vocab: int, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "uses_kernels", lambda x: True)
    seed = vocab + ties
    logits = 3 * noise(seed, STREAMS, vocab)
    if ties:
        logits = (2 * logits).round() / 2  # many equal values, with zeros of either sign
    how = choices(seed, vocab)
    codebook = vocab % CODEBOOKS
    codes = choose(logits, how, codebook).tolist()
    expected = chosen_in_order(logits, how, codebook)
    assert all(code in may for code, may in zip(codes, expected, strict=True))
    assert sum(len(may) == 1 for may in expected) > 0.9 * STREAMS


def test_kernel_and_operations_choose_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, how = 2 * noise(7, STREAMS, 2048), choices(7, 2048)
    both: list[Tensor] = []
    for kernels in (False, True):
        monkeypatch.setattr(sampling, "uses_kernels", lambda x, kernels=kernels: kernels)
        both.append(choose(logits, how, 3))
    assert both[0].equal(both[1])


def test_broken_logits_still_give_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of a padding row must exist in the tables, whatever its logits are."""
    monkeypatch.setattr(sampling, "uses_kernels", lambda x: True)
    values = torch.tensor([float("nan"), float("inf"), -float("inf")], device=DEVICE)
    logits = values.repeat(STREAMS)[:STREAMS, None].repeat(1, 300)
    with np.errstate(all="ignore"):
        codes = choose(logits, choices(1, 300), 0)
    assert 0 <= int(codes.min()) <= int(codes.max()) < 300


def test_rows_that_are_not_numbers_are_noted_and_change_no_other_row() -> None:
    logits = torch.randn(STREAMS, 300, generator=torch.Generator().manual_seed(5)).to(DEVICE)
    how, alone = choices(5, 300), choices(5, 300)
    expected = choose(logits, alone, 3)
    broken = {1: float("nan"), 4: float("inf"), 7: -float("inf"), 11: float("nan")}
    spoilt = logits.clone()
    for row, value in broken.items():
        spoilt[row, 17] = value
    spoilt[11] = float("nan")
    found = choose(spoilt, how, 3)
    sound = [row for row in range(STREAMS) if row not in broken]
    assert found[sound].tolist() == expected[sound].tolist()
    assert ((found >= 0) & (found < 300)).all()
    assert how.finite[:, 3].tolist() == [row not in broken for row in range(STREAMS)]
    assert how.finite[:, :3].all()
    assert alone.finite.all()
