"""Sampling: the right distribution, the right candidates, and a stream's own noise in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from services.common.sampling import SamplingParams
from services.speech_gen.model.sampling import SamplingTable, choose, uniforms

GREEDY = SamplingParams(greedy=True)


def draw(logits: Tensor, samplings: list[SamplingParams], frame: int = 0, codebook: int = 0) -> list[int]:
    """One code for each row of logits [W, V], with its own sampling."""
    table = SamplingTable(len(samplings), 8, "cpu")
    for slot, sampling in enumerate(samplings):
        table.set(slot, sampling)
    slots = list(range(len(samplings)))
    choices = table.choices(
        torch.tensor(slots), torch.from_numpy(table.uniforms(slots, np.full(len(slots), frame))), table.most_k(slots)
    )
    return choose(logits, choices, codebook).tolist()


def frequencies(logits: Tensor, sampling: dict[str, Any], draws: int = 20_000) -> Tensor:
    """How often each code comes out over many seeds."""
    codes = draw(logits.expand(draws, -1), [SamplingParams(seed=seed, **sampling) for seed in range(draws)])
    return torch.bincount(torch.tensor(codes), minlength=logits.shape[0]) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax_at_temperature(temperature: float) -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, 0.0, 2.5])
    found = frequencies(logits, {"temperature": temperature, "top_k": 5})
    torch.testing.assert_close(found, torch.softmax(logits / temperature, -1), rtol=0, atol=0.012)


def test_top_k_keeps_the_likeliest_and_their_ratios() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, 0.0, 2.5])
    found = frequencies(logits, {"top_k": 3})
    expected = torch.softmax(logits.masked_fill(torch.tensor([True, False, False, True, False]), -torch.inf), -1)
    assert found[[0, 3]].eq(0).all()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.012)


def test_top_p_keeps_the_fewest_that_hold_the_share() -> None:
    logits = torch.tensor([0.1, 0.5, 0.3, 0.1]).log()
    found = frequencies(logits, {"top_k": 4, "top_p": 0.7})
    torch.testing.assert_close(found, torch.tensor([0.0, 0.625, 0.375, 0.0]), rtol=0, atol=0.012)


def test_tiny_top_p_is_the_likeliest_code() -> None:
    found = frequencies(torch.tensor([1.0, 3.0, 2.0]), {"top_k": 3, "top_p": 1e-6}, draws=500)
    assert found.tolist() == [0.0, 1.0, 0.0]


def test_greedy_is_the_argmax_and_needs_no_seed() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    assert draw(logits, [GREEDY] * 4) == logits.argmax(-1).tolist()


def test_the_other_streams_of_a_batch_do_not_change_a_code() -> None:
    logits = torch.randn(64, 2048, generator=torch.Generator().manual_seed(0))
    samplings = [
        SamplingParams(temperature=0.5 + i % 3, top_k=1 + (i * 37) % 300, top_p=(0.4, 0.9, 1.0)[i % 3], seed=i)
        for i in range(60)
    ]
    samplings += [SamplingParams(top_k=5000, seed=99), GREEDY, GREEDY, SamplingParams(seed=100)]
    together = draw(logits, samplings, frame=7, codebook=3)
    assert together == [draw(logits[i : i + 1], [samplings[i]], frame=7, codebook=3)[0] for i in range(64)]


def test_noise_is_uniform_and_new_for_each_seed_frame_and_codebook() -> None:
    seeds = np.repeat(np.arange(100, dtype=np.uint64), 100)
    noise = uniforms(seeds, np.tile(np.arange(100), 100), 8)
    assert noise.dtype == np.float32
    assert noise.min() >= 0
    assert noise.max() < 1
    counts, _ = np.histogram(noise, bins=20, range=(0, 1))
    assert abs(counts / noise.size - 0.05).max() < 0.002
    by_codebook = np.corrcoef(noise.T) - np.eye(8)
    assert abs(by_codebook).max() < 0.05
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.05
    assert len(np.unique(noise)) > 0.99 * noise.size * (1 - noise.size / 2**25)


def test_noise_is_the_written_down_hash() -> None:
    def scramble(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    def noise(seed: int, frame: int, codebook: int) -> float:
        stride = 0x9E3779B97F4A7C15
        of_frame = scramble((scramble(seed) + (frame + 1) * stride) % 2**64)
        return (scramble((of_frame + (codebook + 1) * stride) % 2**64) >> 40) / 2**24

    seeds, frames = [0, 1, 2**64 - 1], [0, 1000, 3]
    found = uniforms(np.array(seeds, dtype=np.uint64), np.array(frames), 8)
    assert found.tolist() == [[noise(s, f, k) for k in range(8)] for s, f in zip(seeds, frames, strict=True)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("whole_row", [False, True])
def test_a_row_that_is_not_numbers_is_noted_and_changes_no_other_row(value: float, whole_row: bool) -> None:
    logits = torch.randn(4, 20, generator=torch.Generator().manual_seed(3))
    samplings = [SamplingParams(seed=1), SamplingParams(seed=2), GREEDY, SamplingParams(seed=4, top_p=0.5)]
    spoilt = logits.clone()
    spoilt[1, slice(None) if whole_row else 7] = value
    expected, found = draw(logits, samplings), draw(spoilt, samplings)
    assert [found[row] for row in (0, 2, 3)] == [expected[row] for row in (0, 2, 3)]
    assert 0 <= found[1] < 20
    table = SamplingTable(4, 8, "cpu")
    choices = table.choices(torch.arange(4), torch.zeros(4, 8), 20)
    choose(spoilt, choices, 5)
    assert choices.finite[:, 5].tolist() == [True, False, True, True]
    assert choices.finite.sum() == 31
