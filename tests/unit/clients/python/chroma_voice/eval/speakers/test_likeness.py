"""The likeness of recordings to voices, with given vectors instead of an encoder's."""

import numpy as np
import pytest
from numpy.typing import NDArray

from chroma_voice.eval.speakers.likeness import Likeness, direction, likeness, summary

PROMPTS = {
    "ann": np.array([1, 0, 0], np.float32),
    "ben": np.array([0, 1, 0], np.float32),
    "cat": np.array([0.6, 0.8, 0], np.float32),
}


def as_it_is(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """An encoder of recordings that are vectors already."""
    if not samples.any():
        raise ValueError("silence")
    return samples


def test_a_recording_is_compared_with_every_prompt() -> None:
    measured = likeness("ann", np.array([0.8, 0.6, 0], np.float32), as_it_is, PROMPTS)

    assert measured.own == pytest.approx(0.8)
    assert measured.closest_other == pytest.approx(0.96)
    assert measured.nearest == "cat"
    assert measured.nearest_of(["ann", "ben"]) == "ann"


def test_the_own_voice_is_no_other() -> None:
    measured = likeness("cat", np.array([0.8, 0.6, 0], np.float32), as_it_is, PROMPTS)

    assert measured.nearest == "cat"
    assert measured.closest_other == pytest.approx(0.8)


def test_silence_is_like_no_voice() -> None:
    measured = likeness("ann", np.zeros(3, np.float32), as_it_is, PROMPTS)

    assert (measured.own, measured.closest_other, measured.nearest) == (0.0, 0.0, None)
    assert measured.nearest_of(PROMPTS) is None


def test_summary_is_of_means_and_of_shares() -> None:
    alike = summary(
        [
            Likeness("ann", {"ann": 0.9, "ben": 0.5}),
            Likeness("ann", {"ann": 0.6, "ben": 0.7}),
            Likeness("ben", {"ann": 0.3, "ben": 0.9}),
            Likeness("ben", {}),
        ]
    )

    assert alike.own == pytest.approx(0.6)
    assert alike.closest_other == pytest.approx(0.375)
    assert alike.own_is_nearest == 0.5


def test_a_direction_is_a_mean_of_length_1() -> None:
    assert direction([PROMPTS["ann"], PROMPTS["ben"]]) == pytest.approx([0.5**0.5, 0.5**0.5, 0])
