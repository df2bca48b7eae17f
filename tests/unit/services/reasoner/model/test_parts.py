"""The keys of what a conversation becomes."""

from __future__ import annotations

import torch

from services.reasoner.model.clip import clip_keys
from services.reasoner.model.parts import AudioPart, keys_of

SOUND = torch.linspace(-0.5, 0.5, 16_000)


def test_a_token_is_its_own_key_and_a_recording_has_one_for_each_of_its_positions() -> None:
    keys = keys_of([[7, 8], AudioPart(SOUND), [9]])
    assert keys == [7, 8, *clip_keys(SOUND), 9]
    assert len(keys) > 4


def test_equal_recordings_have_equal_keys_and_others_have_none_in_common() -> None:
    assert AudioPart(SOUND).keys == AudioPart(SOUND.clone()).keys
    assert not set(AudioPart(SOUND).keys) & set(AudioPart(SOUND * 0.5).keys)
