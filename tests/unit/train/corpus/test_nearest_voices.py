"""The nearest reply voice of each voice, by the cosine of their vectors."""

from __future__ import annotations

import numpy as np

from train.corpus.nearest_voices import nearest

REPLYING = {"amber": np.array([1, 0], np.float32), "basil": np.array([0, 1], np.float32)}


def test_each_voice_is_listed_under_its_nearest_reply_voice_and_ties_are_left_out() -> None:
    voices = {
        "high": np.array([0.9, 0.1], np.float32),
        "low": np.array([0.3, 0.8], np.float32),
        "equal": np.array([0.71, 0.70], np.float32),
    }
    assert nearest(voices, REPLYING) == {"amber": ["high"], "basil": ["low"]}
