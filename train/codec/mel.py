"""Mel spectrograms of training audio, and a distance between waveforms that is computed from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from services.common.wire.audio import SAMPLE_RATE_HZ

LOG_FLOOR = 1e-3
"""Smaller magnitudes count as silence: 57 dB below a full-band tone of the corpus's loudness."""

_RESOLUTIONS = ((256, 32), (512, 64), (1024, 80), (2048, 128))
"""Pairs of window length and number of mel bands; windows overlap by three quarters."""
_CONVERGENCE_WEIGHT = 0.1


class LogMel(nn.Module):
    """log10 of mel magnitudes, floored. Frames begin every `hop` samples; nothing is padded."""

    def __init__(self, *, fft: int, hop: int, bands: int) -> None:
        super().__init__()
        self.fft, self.hop = fft, hop
        filters = mel_filter_bank(
            num_frequency_bins=fft // 2 + 1,
            num_mel_filters=bands,
            min_frequency=0.0,
            max_frequency=SAMPLE_RATE_HZ / 2,
            sampling_rate=SAMPLE_RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("_filters", torch.from_numpy(filters).float().T.contiguous())  # [bands, bins]
        self.register_buffer("_window", torch.hann_window(fft))

    def magnitudes(self, pcm: Tensor) -> Tensor:
        """Waveform [B, S] -> magnitudes [B, bins, (S - fft) // hop + 1]."""
        spectrum = torch.stft(
            pcm, self.fft, self.hop, window=self.get_buffer("_window"), center=False, return_complex=True
        )
        return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-9)  # abs() has no gradient at 0

    def log_bands(self, magnitudes: Tensor) -> Tensor:
        """[B, bins, L] -> [B, bands, L]."""
        return (self.get_buffer("_filters") @ magnitudes).clamp(min=LOG_FLOOR).log10()

    def forward(self, pcm: Tensor) -> Tensor:
        """Waveform [B, S] -> [B, bands, (S - fft) // hop + 1]."""
        return self.log_bands(self.magnitudes(pcm))


class MelDistance(nn.Module):
    """Mean absolute difference of log-mel spectra plus a tenth of the spectral convergence, over four resolutions."""

    def __init__(self) -> None:
        super().__init__()
        self._mels = nn.ModuleList(LogMel(fft=fft, hop=fft // 4, bands=bands) for fft, bands in _RESOLUTIONS)

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Waveforms [B, S], S at least 2048 -> a scalar."""
        distances = []
        for mel in self._mels:
            assert isinstance(mel, LogMel)
            ours = mel.magnitudes(made)
            with torch.no_grad():
                theirs = mel.magnitudes(wanted)
                log_theirs = mel.log_bands(theirs)
            difference = (mel.log_bands(ours) - log_theirs).abs().mean()
            convergence = (ours - theirs).norm() / theirs.norm().clamp(min=1e-3)
            distances.append(difference + _CONVERGENCE_WEIGHT * convergence)
        return torch.stack(distances).mean()


class FramePatches(nn.Module):
    """The mel patch of a code frame: 4 columns of 80 mel bands; the last window ends with the frame."""

    COLUMNS, BANDS = 4, 80
    SIZE = COLUMNS * BANDS

    def __init__(self) -> None:
        super().__init__()
        self._mel = LogMel(fft=1024, hop=480, bands=self.BANDS)

    def forward(self, pcm: Tensor) -> Tensor:
        """Waveform [B, T * 1920] -> patches [B, T, 320]. The waveform is padded with silence in front."""
        columns = self._mel(F.pad(pcm, (self._mel.fft - self._mel.hop, 0)))  # [B, bands, 4T]
        return columns.unflatten(2, (-1, self.COLUMNS)).permute(0, 2, 1, 3).flatten(2)
