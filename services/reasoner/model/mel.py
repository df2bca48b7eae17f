"""Whisper's log-mel spectrogram, one run of frames at a time (docs/model.md, section 7).

Frame t sees the samples [160 t - 200, 160 t + 200) under a Hann window. The clip's reflection precedes it and zeros
follow it: the reference pads every clip to 300 s. A clip of S samples has ceil(S / 160) valid frames.
"""

from __future__ import annotations

import torch
from transformers.audio_utils import mel_filter_bank

from services.common.wire.audio import HEARING_RATE_HZ, MEL_HOP_SAMPLES

N_FFT = 400
FRAMES_PER_S = HEARING_RATE_HZ // MEL_HOP_SAMPLES

MAX_CLIP_SAMPLES = 300 * HEARING_RATE_HZ - N_FFT // 2
"""The reference's padded length. It would cut a longer clip, or reflect its end instead of padding with zeros."""

CLAMP_DECADES = 8.0
"""The floor lies this far below the loudest bin of the whole clip. Lower bins are raised to it."""

LOWEST_POWER = 1e-10
"""A smaller mel power counts as this one, so that it has a logarithm."""

EMPTY_BIN_LOG_MEL = -9.999
"""Just above the log10 of LOWEST_POWER. A bin up to this value has no power."""


class MelFilters:
    """The constants of the spectrogram on one device: slaney filters [N_FFT // 2 + 1, bins] and the Hann window."""

    def __init__(self, bins: int, device: torch.device | str = "cpu") -> None:
        filters = mel_filter_bank(
            num_frequency_bins=N_FFT // 2 + 1,
            num_mel_filters=bins,
            min_frequency=0.0,
            max_frequency=HEARING_RATE_HZ / 2,
            sampling_rate=HEARING_RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        )
        self.bins = bins
        self.device = torch.device(device)
        self.filters = torch.from_numpy(filters).to(self.device, torch.float32)
        self.window = torch.hann_window(N_FFT, device=self.device)


def valid_frames(samples: int) -> int:
    """Frames of a clip: ceil(samples / 160)."""
    return -(-samples // MEL_HOP_SAMPLES)


def log_mel(samples: torch.Tensor, mel: MelFilters) -> torch.Tensor:
    """Log10 mel power of every full window in `samples`, neither clamped nor scaled.

    Args:
        samples: float32 [S], S >= N_FFT; the first window starts at its first sample.

    Returns:
        float32 [1 + (S - N_FFT) // MEL_HOP_SAMPLES, bins] on the filters' device.
    """
    windows = samples.to(mel.device).unfold(0, N_FFT, MEL_HOP_SAMPLES) * mel.window  # [T, N_FFT]
    power = torch.fft.rfft(windows).abs() ** 2  # [T, N_FFT // 2 + 1]
    return torch.clamp(power @ mel.filters, min=LOWEST_POWER).log10()


def scaled(log_mel_frames: torch.Tensor, floor: float) -> torch.Tensor:
    """The input of the audio tower: [T, bins] clamped from below at `floor`, then (x + 4) / 4."""
    return (torch.clamp(log_mel_frames, min=floor) + 4.0) / 4.0
