"""Resemblyzer's speaker encoder, which maps a voice to a vector, with the weights of its package.

This module replaces the package's code, which needs librosa, scipy and numba for one spectrogram. It gives the same
numbers as the package.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import torch
import webrtcvad
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

SAMPLE_RATE_HZ = 16_000
_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"

_BANDS = 40
_WINDOW = 400
_HOP = 160
_PART_FRAMES = 160
"""Frames (10 ms) of a part. The embedding of an utterance is the mean of its parts' embeddings."""
_PART_EVERY = 77
"""Frames from one part to the next: 1.3 parts a second."""
_MIN_COVERED = 0.75
"""A last part that is longer than the rest of the sound counts if at least this share of it is sound."""
_LOUDNESS_RMS = 10 ** (-30 / 20)
"""Quieter sound is amplified to this level."""
_VAD_WINDOW = 480
_VAD_MEAN = 8
_VAD_MARGIN = 3
"""Numbers of windows (30 ms): the length of the moving average, and the silence that stays on each side of speech."""


class VoicePrint(nn.Module):
    """Speaker encoder: 3 LSTM layers of 256 and a projection, over mel frames."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self._filters = torch.from_numpy(
            mel_filter_bank(_WINDOW // 2 + 1, _BANDS, 0.0, SAMPLE_RATE_HZ / 2, SAMPLE_RATE_HZ, "slaney", "slaney")
        ).float()

    @torch.inference_mode()
    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vector [256] of length 1 for the voice in samples [S] at 16 kHz. Raises `ValueError` for silence."""
        spoken = spoken_part(samples)
        if not len(spoken):
            raise ValueError("expected speech, got silence")
        starts = part_starts(len(spoken))
        missing = (starts[-1] + _PART_FRAMES) * _HOP - len(spoken)
        mel = self._mel(torch.from_numpy(np.pad(spoken, (0, max(0, missing)))))
        parts = torch.stack([mel[start : start + _PART_FRAMES] for start in starts])
        _, (hidden, _) = self.lstm(parts)
        mean = nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1).mean(0)
        return nn.functional.normalize(mean, dim=0).numpy()

    def _mel(self, samples: Tensor) -> Tensor:
        """Power in 40 mel bands, [T, 40], of samples [S]."""
        window = torch.hann_window(_WINDOW)
        spectrum = torch.stft(
            samples, _WINDOW, _HOP, window=window, center=True, pad_mode="constant", return_complex=True
        )
        return spectrum.abs().square().T @ self._filters


def load_voice_print() -> VoicePrint:
    """The encoder with the weights of the Resemblyzer package, which is not imported.

    Raises `ModuleNotFoundError` without the package, `ValueError` for weights with another hash.
    """
    found = importlib.util.find_spec("resemblyzer")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("Resemblyzer is not installed: pip install --no-deps Resemblyzer", name="resemblyzer")
    file = Path(found.submodule_search_locations[0]) / "pretrained.pt"
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    if content != _SHA256:
        raise ValueError(f"expected weights with SHA-256 {_SHA256} in {file}, got {content}")
    encoder = VoicePrint()
    weights = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder.eval()


def part_starts(samples: int) -> list[int]:
    """The first frame of each overlapping part of an utterance with this number of samples."""
    frames = -(-(samples + 1) // _HOP)
    starts = list(range(0, max(1, frames - _PART_FRAMES + _PART_EVERY + 1), _PART_EVERY))
    covered = (samples - starts[-1] * _HOP) / (_PART_FRAMES * _HOP)
    return starts[:-1] if covered < _MIN_COVERED and len(starts) > 1 else starts


def spoken_part(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The samples without their longer silences, amplified to -30 dBFS if they are quieter."""
    rms = np.sqrt(np.mean(np.square(samples))) if len(samples) else 0.0
    if rms == 0.0:
        return samples[:0]
    whole = samples[: len(samples) // _VAD_WINDOW * _VAD_WINDOW] * max(1.0, _LOUDNESS_RMS / rms)
    pcm = (np.clip(whole, -1.0, 1.0) * 32767).round().astype("<i2").reshape(-1, _VAD_WINDOW)
    detector = webrtcvad.Vad(3)
    flags = np.array([detector.is_speech(window.tobytes(), SAMPLE_RATE_HZ) for window in pcm], float)
    padded = np.concatenate([np.zeros((_VAD_MEAN - 1) // 2), flags, np.zeros(_VAD_MEAN // 2)])
    voiced = np.convolve(padded, np.full(_VAD_MEAN, 1 / _VAD_MEAN), "valid").round().astype(bool)
    reached = np.convolve(voiced, np.ones(2 * _VAD_MARGIN + 1))[_VAD_MARGIN : _VAD_MARGIN + len(voiced)] > 0
    return whole[np.repeat(reached, _VAD_WINDOW)].astype(np.float32)
