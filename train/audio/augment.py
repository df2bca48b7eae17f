"""What happens to a question on its way from a mouth to the tower: pace, room, microphone, level, noise, pauses.

Pace, room and microphone are one multiplication in the frequency domain between two transforms, whose lengths differ
by the change of pace: a few milliseconds a clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from services.common.wire.audio import HEARING_RATE_HZ
from train.audio.noises import Samples, babble, coloured_noise, decibels, fast_length, hum, unit_rms


@dataclass(frozen=True)
class Journey:
    """How far a clip may be changed. Pairs are bounds."""

    pause_s: tuple[float, float] = (0.0, 2.5)
    """Silence before and after: a button is pressed early and let go late."""
    pace: tuple[float, float] = (0.85, 1.2)
    """Faster is higher, too."""
    level_db: tuple[float, float] = (-40.0, -6.0)
    """RMS of the speech, full scale 0; what is loudest is cut off, as too near a microphone."""
    noise_db: tuple[float, float] = (5.0, 40.0)
    """Speech above noise."""
    reverberation_s: tuple[float, float] = (0.1, 0.6)
    """Until an echo is 60 dB below."""
    direct_db: tuple[float, float] = (0.0, 15.0)
    """The voice itself above its echoes."""
    tilt_db: tuple[float, float] = (-4.0, 4.0)
    """Gain an octave."""
    pace_share: float = 0.8
    room_share: float = 0.5
    microphone_share: float = 0.7
    telephone_share: float = 0.1
    noise_share: float = 0.75


NEAR = Journey(
    pause_s=(0.0, 0.4),
    pace=(0.9, 1.12),
    level_db=(-28.0, -14.0),
    noise_db=(20.0, 45.0),
    tilt_db=(-2.0, 2.0),
    room_share=0.2,
    telephone_share=0.03,
)
"""A short way. Learning begins with it: letters are found sooner in what differs less."""

ENROLLING = Journey(
    pause_s=(0.0, 0.5),
    level_db=(-30.0, -12.0),
    noise_db=(15.0, 45.0),
    pace_share=0.0,
    room_share=0.3,
    telephone_share=0.0,
)
"""How a recording to enrol with comes: with some care, and at the speaker's own pace and pitch."""

STILL = Journey(
    pause_s=(0.0, 0.0),
    level_db=(-20.0, -20.0),
    pace_share=0.0,
    room_share=0.0,
    microphone_share=0.0,
    telephone_share=0.0,
    noise_share=0.0,
)
"""No way at all: every clip arrives as it is, at one level."""


class Augmenter:
    """Random journeys. `chatter` gives a clip of someone else, for babble."""

    def __init__(
        self,
        dice: np.random.Generator,
        chatter: Callable[[], Samples],
        journey: Journey | None = None,
        *,
        sample_rate_hz: int = HEARING_RATE_HZ,
    ) -> None:
        self._dice = dice
        self._chatter = chatter
        self._journey = journey or Journey()
        self._rate_hz = sample_rate_hz

    def __call__(self, clip: Samples) -> Samples:
        """The clip as it might arrive: float32 [S'], never beyond full scale."""
        dice, journey = self._dice, self._journey
        sound = unit_rms(self._filter(clip)) * decibels(dice.uniform(*journey.level_db))
        before, after = (self._pause() for _ in range(2))
        level = np.sqrt(np.mean(sound * sound))
        sound = np.pad(sound, (before, after))
        if self._happens(journey.noise_share):
            sound += self._noise(len(sound)) * level * decibels(-dice.uniform(*journey.noise_db))
        return np.clip(sound, -1.0, 1.0).astype(np.float32)

    def _pause(self) -> int:
        """Samples of silence; short ones are more frequent, and cost less."""
        shortest, longest = self._journey.pause_s
        return int((shortest + (longest - shortest) * self._dice.random() ** 2) * self._rate_hz)

    def _happens(self, share: float) -> bool:
        return bool(self._dice.random() < share)

    def _filter(self, clip: Samples) -> Samples:
        """Another pace, room and microphone; the room's echo is cut off 0.1 s after the last word."""
        dice, journey = self._dice, self._journey
        echo = self._echo() if self._happens(journey.room_share) else None
        size = fast_length(len(clip) + (0 if echo is None else len(echo)))
        pace = 2.0 ** dice.uniform(*np.log2(journey.pace)) if self._happens(journey.pace_share) else 1.0
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
        """A room's answer to a click: the click, then noise that dies away."""
        dice, journey = self._dice, self._journey
        seconds = dice.uniform(*journey.reverberation_s)
        answer = dice.standard_normal(int(seconds * self._rate_hz), dtype=np.float32)
        answer *= np.exp(-6.9 * np.arange(len(answer), dtype=np.float32) / len(answer))
        answer[: int(dice.uniform(0.001, 0.02) * self._rate_hz)] = 0.0
        answer *= decibels(-dice.uniform(*journey.direct_db)) / np.sqrt(np.sum(answer * answer))
        answer[0] = 1.0
        return answer

    def _microphone(self, hz: np.ndarray) -> np.ndarray:
        """The gain at each frequency."""
        dice, journey = self._dice, self._journey
        if self._happens(journey.telephone_share):
            return _band(hz, dice.uniform(200.0, 400.0), dice.uniform(3_000.0, 3_800.0), 8)
        if not self._happens(journey.microphone_share):
            return np.ones_like(hz)
        octaves = np.log2(np.maximum(hz, 50.0) / 1_000.0)
        gain_db = dice.uniform(*journey.tilt_db) * octaves
        for _ in range(int(dice.integers(0, 3))):  # a resonance or a hole
            gain_db += dice.uniform(-9.0, 9.0) * np.exp(-(((octaves - dice.uniform(-3.0, 2.5)) / 0.6) ** 2))
        gains = 10.0 ** (np.clip(gain_db, -30.0, 30.0) / 20.0)
        return gains * _band(hz, dice.uniform(20.0, 200.0), dice.uniform(3_500.0, 9_000.0), 2)

    def _noise(self, count: int) -> Samples:
        """RMS 1."""
        kind = self._dice.random()
        if kind < 0.25:
            return babble(self._dice, count, [self._chatter() for _ in range(int(self._dice.integers(1, 5)))])
        if kind < 0.3:
            return hum(self._dice, count, self._rate_hz)
        return coloured_noise(self._dice, count, self._dice.uniform(0.0, 2.0))


def mask(mel: torch.Tensor, dice: np.random.Generator, *, bands: int = 2, pauses: int = 2) -> torch.Tensor:
    """SpecAugment: `bands` runs of up to 16 bins and `pauses` runs of up to 30 frames replaced by the clip's mean.

    `mel` [T, bins] -> a copy.
    """
    masked, mean = mel.clone(), float(mel.mean())
    for axis, runs, most in ((1, bands, 16), (0, pauses, 30)):
        for _ in range(runs):
            width = min(int(dice.integers(0, most + 1)), mel.shape[axis])
            start = int(dice.integers(0, mel.shape[axis] - width + 1))
            masked.narrow(axis, start, width).fill_(mean)
    return masked


def _band(hz: np.ndarray, low_hz: float, high_hz: float, order: int) -> np.ndarray:
    """Gains of a Butterworth band pass."""
    low = 1.0 / (1.0 + (low_hz / np.maximum(hz, 1.0)) ** (2 * order))
    high = 1.0 / (1.0 + (hz / high_hz) ** (2 * order))
    return np.sqrt(low * high)
