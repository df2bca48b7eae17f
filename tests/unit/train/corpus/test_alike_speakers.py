"""Speakers that are almost the same as an earlier one are left out."""

from __future__ import annotations

import numpy as np
import pytest

from train.corpus.alike_speakers import MAX_LIKENESS, alike


def at(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def test_a_speaker_is_listed_under_the_nearest_one_that_stays() -> None:
    speakers = {"ann": at(0), "ben": at(90), "cat": at(5), "dan": at(60), "elm": at(88)}
    assert alike(speakers) == {"ann": ["cat"], "ben": ["elm"]}
    assert alike(speakers, likeness=0.8) == {"ann": ["cat"], "ben": ["dan", "elm"]}


def test_a_chain_of_alike_speakers_keeps_every_second_one() -> None:
    step = np.degrees(np.arccos(MAX_LIKENESS)) * 0.7
    assert alike({str(number): at(step * number) for number in range(4)}) == {"0": ["1"], "2": ["3"]}


@pytest.mark.parametrize("speakers", [{}, {"ann": at(0)}])
def test_nobody_is_left_out_of_one_or_none(speakers: dict[str, np.ndarray]) -> None:
    assert alike(speakers) == {}
