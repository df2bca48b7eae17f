"""The sound of a long reply has no click, no gap and no jump in loudness where two segments meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.quality.seam import measure, speak_long
from services.codec.model.mimi import Mimi
from services.common.sampling import SamplingParams
from services.common.wire.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.kvcache.paged_kv import PagedKV
from services.speech_gen.messages import SpeechRequest
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.voice import enroll
from services.speech_gen.model.weights import load_generator
from tests.support.golden_checkpoint import golden_checkpoint

GOLDEN = golden_checkpoint()
FRAMES = 300


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, list[int]]:
    """A reply of 24 s that no EOS ends, sampled by the golden model, with 200 positions: two seams or more."""
    checkpoint = Checkpoint.open(GOLDEN)
    loaded, mimi = load_generator(checkpoint, slots=1), Mimi.load(checkpoint)
    kv = PagedKV(loaded.kv.config, slots=1, pages=13, dtype=torch.float32, max_positions=200)
    generator = Generator(loaded.backbone, loaded.decoder, kv, eos=-1, im_end=loaded.im_end)
    dice = np.random.default_rng(3)
    codes = dice.integers(0, 2048, (25, 8))
    voice = enroll(generator.backbone, ChromaConfig.from_dict(checkpoint.config).tokens, codes, [1, 2, 3])
    hidden = torch.from_numpy(dice.normal(size=(FRAMES, 48)).astype(np.float32))
    thoughts = [ThoughtInput(int(dice.integers(600)), row) for row in hidden]
    return speak_long(generator, mimi, SpeechRequest(voice, SamplingParams(seed=3), FRAMES), thoughts)


def test_sound_goes_on_across_every_seam(spoken: tuple[np.ndarray, list[int]]) -> None:
    pcm, samples = spoken
    assert len(pcm) == FRAMES * FRAME_SAMPLES
    assert len(samples) >= 2
    for seam in (measure(pcm, sample) for sample in samples):
        assert seam.jump < 1.5
        assert seam.gap_ms == 0
        assert abs(seam.before_db - seam.after_db) < 3


def test_measure_finds_a_click_a_gap_and_a_change_of_loudness() -> None:
    time_s = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    pcm = 0.1 * np.sin(2 * np.pi * 200 * time_s).astype(np.float32)
    middle = SAMPLE_RATE_HZ
    plain = measure(pcm, middle)
    assert (plain.gap_ms, round(plain.before_db, 1), round(plain.after_db, 1)) == (0, -23.0, -23.0)
    assert plain.jump < 1.1
    louder = pcm.copy()
    louder[middle:] *= 2
    assert measure(louder, middle).after_db - measure(louder, middle).before_db == pytest.approx(6.02, abs=0.01)
    clicking = pcm.copy()
    clicking[middle:] += 0.1
    assert measure(clicking, middle).jump > 10
    holed = pcm.copy()
    holed[middle - 480 : middle + 720] = 0
    assert measure(holed, middle).gap_ms == 50
