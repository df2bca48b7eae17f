"""Toy sound for the codec's training: gliding harmonic tones with pauses."""

from __future__ import annotations

import numpy as np
import torch

from services.common.wire.audio import SAMPLE_RATE_HZ
from train.codec.crops import CodedClip, Pcm16, whole_frames
from train.codec.mel import FramePatches
from train.codec.patch_quantizer import PatchQuantizer


def toy_pcm(seed: int, seconds: float = 2.0) -> Pcm16:
    """A clip [S] of random tones with different pitch, loudness and spectral tilt."""
    generator = np.random.default_rng(seed)
    notes = []
    for _ in range(round(seconds / 0.2)):
        time_s = np.arange(round(0.2 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        pitch_hz = generator.uniform(100, 300) * (1 + generator.uniform(-0.3, 0.3) * time_s / 0.2)
        tilt = generator.uniform(0.5, 2.0)
        phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
        tone = sum(np.sin(number * phase) / number**tilt for number in range(1, 9))
        notes.append(generator.choice([0.0, 0.05, 0.2]) * tone * np.hanning(len(time_s)))
    return np.round(np.concatenate(notes) * 20_000).clip(-32_768, 32_767).astype(np.int16)


def toy_patches(clips: int) -> tuple[list[Pcm16], torch.Tensor]:
    """Toy clips in whole frames, and the patches [R, 320] of all of them."""
    measure = FramePatches()
    waves = [whole_frames(toy_pcm(seed)) for seed in range(clips)]
    return waves, torch.cat([measure(torch.from_numpy(wave).float()[None] / 32768.0)[0] for wave in waves])


def toy_quantizer(width: int, codebook_size: int, clips: int = 8) -> tuple[PatchQuantizer, list[CodedClip]]:
    """A quantizer of 8 codebooks fitted to toy clips, and the clips with their codes."""
    torch.manual_seed(0)
    waves, patches = toy_patches(clips)
    quantizer = PatchQuantizer.fit(patches, codebooks=8, codebook_size=codebook_size, width=width)
    codes = quantizer.encode(quantizer.components(patches)).split([len(wave) // 1920 for wave in waves])
    return quantizer, [CodedClip(wave, rows) for wave, rows in zip(waves, codes, strict=True)]
