"""The variants of a recording's codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.toy_speech import toy_pcm, toy_quantizer
from train.audio.sound import Sound, shifted
from train.codec.coder import Coder, loudness, patches_at
from train.codec.mel import FramePatches
from train.corpus.clip_index import Clip
from train.corpus.copies import Spoken


def heard(samples: np.ndarray) -> np.ndarray:
    """A speaker embedding: the share of fast changes."""
    fast = float(np.abs(np.diff(samples)).mean() / np.abs(samples).mean())
    return np.array([np.cos(fast), np.sin(fast)], np.float32)


def clip(name: str) -> Clip:
    return Clip(f"replies/{name}.wav", name, "A sentence.", "reply", None, 1.0, False)


@pytest.fixture
def coder() -> Coder:
    quantizer, (first, *_) = toy_quantizer(width=8, codebook_size=8, clips=2)
    return Coder(quantizer, heard, [first.pcm.astype(np.float32) / 32768.0], np.random.default_rng(0))


def test_a_recording_has_codes_in_every_variant(coder: Coder) -> None:
    torch.manual_seed(0)
    spoken = Spoken(clip("speaker"), 0.9)
    found = coder.variants(spoken, toy_pcm(2))
    assert {key.removeprefix("replies/speaker.wav~0.9") for key in found} == {"", "@960", "@afar", "@blurred"}
    assert all(codes.dtype == torch.int16 for codes in found.values())
    plain = found["replies/speaker.wav~0.9"]
    assert len(found["replies/speaker.wav~0.9@blurred"]) == len(plain) <= len(found["replies/speaker.wav~0.9@afar"])
    same = (found["replies/speaker.wav~0.9@blurred"] == plain).float().mean()
    assert 0.1 < same < 1.0


def test_a_voice_has_the_mean_of_all_its_speech(coder: Coder) -> None:
    for number in range(3):
        coder.variants(Spoken(clip("speaker")), toy_pcm(number))
    voices = coder.voices()
    assert voices.keys() == {"speaker", "speaker@mean"}
    assert voices["speaker"].norm().item() == pytest.approx(1.0)
    quantizer, _ = toy_quantizer(width=8, codebook_size=8, clips=2)
    patches = torch.cat([patches_at(FramePatches(), toy_pcm(number)) for number in range(3)])
    weights = loudness(patches)
    assert 0.0 == weights.min() < weights.max() == 1.0
    wanted = weights @ quantizer.components(patches) / weights.sum()
    torch.testing.assert_close(voices["speaker@mean"], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_a_copy_performs_in_the_time_of_its_original(coder: Coder, factor: float) -> None:
    original = toy_pcm(3)
    pcm = shifted(Sound(original.astype(np.float32), 24_000), factor).samples.round().clip(-32_768, 32_767)
    spoken = Spoken(clip("amber"), factor)
    said = coder.performance(spoken, pcm.astype(np.int16), original)
    loud = said[f"{spoken.key}@loud"].float()
    wanted = loudness(patches_at(FramePatches(), original))
    assert len(said[spoken.key]) == len(loud) == len(wanted)
    assert torch.corrcoef(torch.stack([loud, wanted]))[0, 1] > 0.8
