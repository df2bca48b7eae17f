"""Steps rounded up to a fixed shape sound like steps of the shape they have."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from services.codec.model.decode_step import DecodeStep
from services.codec.model.mimi import Mimi

SLOTS, WIDTH, STEP_FRAMES = 7, 6, 4


def steps_of(mimi: Mimi, *, padded: bool) -> DecodeStep:
    return DecodeStep(
        mimi.decoder, torch.device("cpu"), slots=SLOTS, width=WIDTH, step_frames=STEP_FRAMES, padded=padded
    )


@pytest.mark.parametrize("seed", range(3))
def test_padded_steps_equal_exact_ones_for_any_set_of_streams(seed: int, mimi: Mimi) -> None:
    dice, noise = random.Random(seed), np.random.default_rng(seed)
    exact, padded = (steps_of(mimi, padded=padded) for padded in (False, True))
    for _ in range(40):
        frames = dice.choice([1, 1, 1, 2, 4])
        slots = dice.sample(range(SLOTS), dice.randint(1, WIDTH // frames))
        codes = noise.integers(0, 2048, (len(slots), frames, 8))
        np.testing.assert_allclose(padded(codes, slots), exact(codes, slots), rtol=0, atol=1e-5)
        if dice.random() < 0.2:
            slot = dice.randrange(SLOTS)
            for step in (exact, padded):
                step.state.reset(slot)


def test_capturing_leaves_every_stream_as_it_was(mimi: Mimi) -> None:
    step = steps_of(mimi, padded=True)
    codes = np.random.default_rng(1).integers(0, 2048, (1, 20, 8))
    whole = mimi.decode(codes[0])
    heard = []
    for frame in range(20):
        heard.append(step(codes[:, frame : frame + 1], [2])[0])
        if frame == 9:
            step.capture()
    np.testing.assert_allclose(np.concatenate(heard), whole, rtol=0, atol=1e-5)
