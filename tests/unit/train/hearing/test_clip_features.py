"""The features of a whole clip are those that the service hears piece by piece."""

from __future__ import annotations

import pytest
import torch

from services.reasoner.model.clip import Clip
from services.reasoner.model.mel import MelFilters
from train.hearing.clip_features import clip_features

MEL = MelFilters(128)


@pytest.mark.parametrize("samples", [321, 4_000, 32_000, 32_161, 75_555])
def test_features_are_those_of_the_service(samples: int) -> None:
    clip = torch.randn(samples, generator=torch.Generator().manual_seed(samples)) * 0.1
    clip[samples // 2 :] *= 1e-3  # quiet enough to lie under the floor
    state = Clip(MEL, 200)
    for piece in clip.split(7_000):
        state.append(piece)
    state.finish()
    heard = torch.cat([state.features(index) for index in range(len(state.chunks))])
    torch.testing.assert_close(clip_features(clip, MEL), heard, atol=1e-6, rtol=0)


def test_clip_too_short_to_be_mirrored_is_refused() -> None:
    with pytest.raises(AssertionError, match="more than 200 samples, got 200"):
        clip_features(torch.zeros(200), MEL)
