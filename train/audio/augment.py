"""Augmentation of recorded speech: random pace, room, microphone, level, noise and pauses.

Pace, room and microphone together are one multiplication in the frequency domain. The inverse transform has another
length than the transform; this changes the pace. A clip takes a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from services.common.wire.audio import HEARING_RATE_HZ
from train.audio.noises import Samples, babble, coloured_noise, decibels, fast_length, hum, unit_rms


@dataclass(frozen=True)
class AugmentationSettings:
    """How much a clip is changed. A pair is the lowest and the highest value; a share is a probability."""

    pause_s: tuple[float, float] = (0.0, 2.5)
    """Silence before and after the speech: users press the button early and release it late."""
    pace: tuple[float, float] = (0.85, 1.2)
    """Factor of speed and pitch."""
    level_db: tuple[float, float] = (-40.0, -6.0)
    """RMS of the speech, 0 dB at full scale. Samples beyond full scale are clipped."""
    noise_db: tuple[float, float] = (5.0, 40.0)
    """Signal-to-noise ratio."""
    reverberation_s: tuple[float, float] = (0.1, 0.6)
    """Time in which the echo falls by 60 dB."""
    direct_db: tuple[float, float] = (0.0, 15.0)
    """Level of the direct sound above the echo."""
    tilt_db: tuple[float, float] = (-4.0, 4.0)
    """Gain per octave."""
    pace_share: float = 0.8
    room_share: float = 0.5
    microphone_share: float = 0.7
    telephone_share: float = 0.1
    noise_share: float = 0.75


NEAR = AugmentationSettings(
    pause_s=(0.0, 0.4),
    pace=(0.9, 1.12),
    level_db=(-28.0, -14.0),
    noise_db=(20.0, 45.0),
    tilt_db=(-2.0, 2.0),
    room_share=0.2,
    telephone_share=0.03,
)
"""Little change, for the start of training: the tower learns letters sooner from recordings that differ less."""

ENROLMENT = AugmentationSettings(
    pause_s=(0.0, 0.5),
    level_db=(-30.0, -12.0),
    noise_db=(15.0, 45.0),
    pace_share=0.0,
    room_share=0.3,
    telephone_share=0.0,
)
"""Recordings for enrolment: made with some care, at the speaker's own pace and pitch."""

UNCHANGED = AugmentationSettings(
    pause_s=(0.0, 0.0),
    level_db=(-20.0, -20.0),
    pace_share=0.0,
    room_share=0.0,
    microphone_share=0.0,
    telephone_share=0.0,
    noise_share=0.0,
)
"""No change except the level, which is -20 dB."""


class Augmenter:
    """Changes clips at random. `other_clip` returns a clip of another speaker, for babble noise."""

    def __init__(
        self,
        dice: np.random.Generator,
        other_clip: Callable[[], Samples],
        settings: AugmentationSettings | None = None,
        *,
        sample_rate_hz: int = HEARING_RATE_HZ,
    ) -> None:
        self._dice = dice
        self._other_clip = other_clip
        self._settings = settings or AugmentationSettings()
        self._rate_hz = sample_rate_hz

    def __call__(self, clip: Samples) -> Samples:
        """The changed clip: float32 [S'], within full scale."""
        dice, settings = self._dice, self._settings
        sound = unit_rms(self._filter(clip)) * decibels(dice.uniform(*settings.level_db))
        before, after = (self._pause() for _ in range(2))
        level = np.sqrt(np.mean(sound * sound))
        sound = np.pad(sound, (before, after))
        if self._happens(settings.noise_share):
            sound += self._noise(len(sound)) * level * decibels(-dice.uniform(*settings.noise_db))
        return np.clip(sound, -1.0, 1.0).astype(np.float32)

    def _pause(self) -> int:
        """Number of samples of silence. Short pauses are more frequent: they cost less time."""
        shortest, longest = self._settings.pause_s
        return int((shortest + (longest - shortest) * self._dice.random() ** 2) * self._rate_hz)

    def _happens(self, share: float) -> bool:
        return bool(self._dice.random() < share)

    def _filter(self, clip: Samples) -> Samples:
        """Change pace, room and microphone. The room's echo ends 0.1 s after the clip."""
        dice, settings = self._dice, self._settings
        echo = self._echo() if self._happens(settings.room_share) else None
        size = fast_length(len(clip) + (0 if echo is None else len(echo)))
        pace = 2.0 ** dice.uniform(*np.log2(settings.pace)) if self._happens(settings.pace_share) else 1.0
        new_size = 2 * round(size / pace / 2)
        spectrum = np.fft.rfft(clip, size)
        if echo is not None:
            spectrum *= np.fft.rfft(echo, size)
        bins = min(size, new_size) // 2 + 1
        changed = np.zeros(new_size // 2 + 1, np.complex64)
        changed[:bins] = spectrum[:bins] * self._microphone(np.arange(bins) * (self._rate_hz / new_size))
        length = round(len(clip) * new_size / size) + (0 if echo is None else self._rate_hz // 10)
        return np.fft.irfft(changed, new_size)[:length].astype(np.float32)

    def _echo(self) -> Samples:
        """An impulse response of a room: the impulse, then noise that decays."""
        dice, settings = self._dice, self._settings
        seconds = dice.uniform(*settings.reverberation_s)
        answer = dice.standard_normal(int(seconds * self._rate_hz), dtype=np.float32)
        answer *= np.exp(-6.9 * np.arange(len(answer), dtype=np.float32) / len(answer))
        answer[: int(dice.uniform(0.001, 0.02) * self._rate_hz)] = 0.0
        answer *= decibels(-dice.uniform(*settings.direct_db)) / np.sqrt(np.sum(answer * answer))
        answer[0] = 1.0
        return answer

    def _microphone(self, hz: np.ndarray) -> np.ndarray:
        """A microphone's gain at each frequency."""
        dice, settings = self._dice, self._settings
        if self._happens(settings.telephone_share):
            return _band(hz, dice.uniform(200.0, 400.0), dice.uniform(3_000.0, 3_800.0), 8)
        if not self._happens(settings.microphone_share):
            return np.ones_like(hz)
        octaves = np.log2(np.maximum(hz, 50.0) / 1_000.0)
        gain_db = dice.uniform(*settings.tilt_db) * octaves
        for _ in range(int(dice.integers(0, 3))):  # a resonance or a notch
            gain_db += dice.uniform(-9.0, 9.0) * np.exp(-(((octaves - dice.uniform(-3.0, 2.5)) / 0.6) ** 2))
        gains = 10.0 ** (np.clip(gain_db, -30.0, 30.0) / 20.0)
        return gains * _band(hz, dice.uniform(20.0, 200.0), dice.uniform(3_500.0, 9_000.0), 2)

    def _noise(self, count: int) -> Samples:
        """Noise of a random kind, RMS 1."""
        kind = self._dice.random()
        if kind < 0.25:
            return babble(self._dice, count, [self._other_clip() for _ in range(int(self._dice.integers(1, 5)))])
        if kind < 0.3:
            return hum(self._dice, count, self._rate_hz)
        return coloured_noise(self._dice, count, self._dice.uniform(0.0, 2.0))


def mask(mel: torch.Tensor, dice: np.random.Generator, *, bands: int = 2, pauses: int = 2) -> torch.Tensor:
    """SpecAugment: replace `bands` runs of up to 16 bins and `pauses` runs of up to 30 frames by the clip's mean.

    Returns a changed copy of `mel` [T, bins].
    """
    masked, mean = mel.clone(), float(mel.mean())
    for axis, runs, most in ((1, bands, 16), (0, pauses, 30)):
        for _ in range(runs):
            width = min(int(dice.integers(0, most + 1)), mel.shape[axis])
            start = int(dice.integers(0, mel.shape[axis] - width + 1))
            masked.narrow(axis, start, width).fill_(mean)
    return masked


def _band(hz: np.ndarray, low_hz: float, high_hz: float, order: int) -> np.ndarray:
    """Gains of a Butterworth band-pass filter."""
    low = 1.0 / (1.0 + (low_hz / np.maximum(hz, 1.0)) ** (2 * order))
    high = 1.0 / (1.0 + (hz / high_hz) ** (2 * order))
    return np.sqrt(low * high)
