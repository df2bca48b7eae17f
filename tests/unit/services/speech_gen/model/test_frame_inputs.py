"""A padded step gives the codes of the exact step. Steps of one shape run the same operations."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from services.common.sampling import SamplingParams
from services.runtime.kvcache import attention, prompt_step
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers import fused
from services.speech_gen.model import depth_decoder, sampling
from services.speech_gen.model.generator import Generator, ThoughtInput
from tests.support.golden_speech import all_rows
from tests.support.kernels import DEVICE, why_not

SLOTS = 6


def fresh(loaded: Generator, *, padded: bool) -> Generator:
    kv = PagedKV(loaded.kv.config, slots=SLOTS, pages=60, dtype=torch.float32)
    return Generator(loaded.backbone, loaded.decoder, kv, eos=loaded.eos, im_end=loaded.im_end, padded=padded)


class StreamMix:
    """Streams that open, take part in some steps and close, in an order that the seed determines."""

    def __init__(self, generator: Generator, seed: int) -> None:
        self.generator = generator
        self.dice = random.Random(seed)
        self.rows = all_rows()
        self.live: dict[int, tuple[Iterator[ThoughtInput], int]] = {}

    def step(self) -> np.ndarray:
        """One frame of some of the streams: codes [W, K]."""
        if self.generator.kv.free_slots and (not self.live or self.dice.random() < 0.5):
            row = self.dice.choice(self.rows)
            sampling = self.dice.choice(
                [
                    SamplingParams(greedy=True),
                    SamplingParams(seed=5, top_k=30),
                    SamplingParams(seed=9, temperature=0.7, top_p=0.9),
                ]
            )
            if self.dice.random() < 0.1:
                sampling = replace(sampling, greedy=False, top_k=300)
            slot = self.generator.open(sampling)
            self.generator.prefill([slot], [row.request(self.generator).voice.rows[:-1]])
            self.live[slot] = (iter(row.thoughts), 0)
        chosen = [slot for slot in self.live if self.dice.random() < 0.8] or list(self.live)[:1]
        alone: list[int] = []
        fed: list[tuple[int, ThoughtInput]] = []
        for slot in chosen:
            thoughts, frames = self.live[slot]
            thought = next(thoughts, None) if frames % 2 == 0 else None
            self.live[slot] = (thoughts, frames + 1)
            if thought is None:
                alone.append(slot)
            else:
                fed.append((slot, thought))
        codes = self.generator.frame(alone, [slot for slot, _ in fed], [thought for _, thought in fed])
        if self.dice.random() < 0.1:
            slot = self.dice.choice(list(self.live))
            del self.live[slot]
            self.generator.close(slot)
        return codes


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_padded_steps_give_the_codes_of_exact_steps(seed: int, loaded_generator: Generator) -> None:
    exact, padded = (StreamMix(fresh(loaded_generator, padded=padded), seed) for padded in (False, True))
    for _ in range(50):
        assert exact.step().tolist() == padded.step().tolist()
        assert exact.generator.kv.lengths.tolist() == padded.generator.kv.lengths.tolist()
    lengths = exact.generator.kv.lengths
    for slot, rows in enumerate(lengths.tolist()):
        for name in ("k", "v"):
            stored = [
                getattr(kv, name)[:, kv.table[slot, : kv.pages_for(rows)]].flatten(1, 2)[:, :rows]
                for kv in (exact.generator.kv, padded.generator.kv)
            ]
            torch.testing.assert_close(*stored, rtol=0, atol=1e-5)


def test_padding_touches_no_page_but_page_0(loaded_generator: Generator) -> None:
    generator = fresh(loaded_generator, padded=True)
    generator.kv.k[:, 1:] = 7.0
    generator.capture()
    assert bool((generator.kv.k[:, 1:] == 7.0).all())
    assert (generator.kv.free_slots, generator.kv.free_pages) == (SLOTS, 60)


class Operations(TorchDispatchMode):
    """Records the operations of a step and the shapes of their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = tuple(tuple(x.shape) if isinstance(x, torch.Tensor) else str(x) for x in tree_leaves(args))
        self.seen.append((str(func), shapes))
        return func(*args, **(kwargs or {}))


def test_steps_of_one_shape_are_the_same_operations_and_read_nothing_back(loaded_generator: Generator) -> None:
    generator = fresh(loaded_generator, padded=True)
    mix = StreamMix(generator, seed=11)
    recorded: dict[object, list[list[tuple[str, tuple[Any, ...]]]]] = {}
    run = generator.graphs.run

    def recording(key: Any, step: Any) -> None:
        with Operations() as operations:
            run(key, step)
        recorded.setdefault(key, []).append(operations.seen)

    generator.graphs.run = recording
    for _ in range(60):
        mix.step()
    assert max(len(steps) for steps in recorded.values()) > 5
    assert len(recorded) >= 8
    for steps in recorded.values():
        assert all(step == steps[0] for step in steps)
        names = {name for name, _ in steps[0]}
        assert not [
            name for name in names if any(word in name for word in ("local_scalar", "nonzero", "unique", "to_copy"))
        ]


def test_a_step_asks_the_device_nothing(loaded_generator: Generator) -> None:
    """Fake tensors have no values: reading one on the host raises."""
    generator = fresh(loaded_generator, padded=True)
    row = all_rows()[0]
    slots = [generator.open(SamplingParams(seed=seed)) for seed in range(2)]
    generator.prefill(slots, [row.request(generator).voice.rows[:-1]] * 2)

    def without_values(key: Any, step: Any) -> None:
        with FakeTensorMode(allow_non_fake_inputs=True):
            with pytest.raises(DataDependentOutputException):
                torch.arange(3).tolist()
            step()

    generator.graphs.run = without_values
    generator.frame(slots[:1], slots[1:], row.thoughts[:1])


SAMPLINGS = (
    SamplingParams(greedy=True),
    SamplingParams(seed=5, top_k=300, temperature=1.2),
    SamplingParams(seed=9, top_p=0.8),
)


def codes(loaded: Generator, *, padded: bool) -> list[list[list[int]]]:
    """Three streams' frames: all with a thought, then one with and two without."""
    generator = fresh(loaded, padded=padded)
    rows = all_rows()[:3]
    slots = [generator.open(sampling) for sampling in SAMPLINGS]
    generator.prefill(slots, [row.request(generator).voice.rows[:4] for row in rows])
    frames = [
        generator.frame([], slots, [row.thoughts[0] for row in rows]),
        generator.frame(slots[:2], slots[2:], rows[2].thoughts[1:2]),
    ]
    return [frame.tolist() for frame in frames]


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.skipif(DEVICE != "cpu", reason="tests/gpu has these tests for a device")
@pytest.mark.slow  # the interpreter of the kernels
def test_kernels_give_the_same_codes(loaded_generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = codes(loaded_generator, padded=False)
    monkeypatch.setattr(prompt_step, "MAX_STREAMS", len(SAMPLINGS))  # fewer blocks of padding
    for module in (fused, attention, depth_decoder, sampling):
        monkeypatch.setattr(module, "uses_kernels", lambda x: True)
    assert codes(loaded_generator, padded=True) == expected
