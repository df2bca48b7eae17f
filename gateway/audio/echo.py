"""Whether a sound of a microphone is the echo of speech that is being played.

Both sounds are compared by their shape in time and frequency: the energies of some bands, frame by frame. The echo
comes late by an unknown time, and a room and a loudspeaker change its colour. So the shapes are compared at each delay
that may be, without the mean of each band. No samples are compared: the clocks of the two sides may drift apart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.common.wire.pcm import Samples

FRAME_S = 0.016
"""A frame begins this long after the one before it, and is twice as long."""
_BANDS, _LOWEST_HZ, _HIGHEST_HZ = 20, 150.0, 3_800.0
_RANGE = 1e-3
"""Energies this far below the loudest one are taken for silence."""
_COMPARED = 25
"""Frames of the microphone that are compared: 0.4 s."""
_EARLIEST, _LATEST = -12, 88
"""The delays of the echo that may be, in frames: -0.2 to 1.4 s. Playing may begin earlier than the estimate."""
_KEPT_S = 3.0
_LIKE = 0.62
"""Shapes with this correlation are the same sound."""
_ROOMS = (0.0, 0.6)
"""Shares of the sound that stay in a room from one frame to the next: none, and as in a room of 0.4 s reverberation."""
_UNLIKE_WINDOWS = 4
"""So many windows in a row are another sound than the played one before they are taken for speech of a person."""

Floats = NDArray[np.float64]


class BandEnergies:
    """Energies of the bands, frame by frame, of a sound that comes in pieces at `rate_hz`."""

    def __init__(self, rate_hz: int) -> None:
        self._hop = round(FRAME_S * rate_hz)
        self._shape = np.hanning(2 * self._hop)
        edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BANDS + 1)
        hz = np.fft.rfftfreq(2 * self._hop, 1 / rate_hz)[:, None]
        bands = (edges[:-1] <= hz) & (hz < edges[1:])
        self._to_bands = bands / np.maximum(1, bands.sum(axis=0)) / len(self._shape)
        self._rest = np.zeros(0, dtype=np.float32)

    def push(self, samples: Samples) -> Floats:
        """Return the frames [T, bands] that the next samples complete."""
        sound = np.concatenate((self._rest, samples))
        count = max(0, len(sound) // self._hop - 1)
        self._rest = sound[count * self._hop :]
        if not count:
            return np.zeros((0, _BANDS))
        frames = np.lib.stride_tricks.sliding_window_view(sound, 2 * self._hop)[:: self._hop][:count]
        return np.square(np.abs(np.fft.rfft(frames * self._shape, axis=1))) @ self._to_bands


class PlayedSpeech:
    """The speech that a client plays, on a grid of frames in time. Threads may share it.

    Times are monotonic seconds, as the gateway estimates them.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self.is_wanted = False
        """Whether anything compares sounds with it. If not, nothing is kept."""
        self._energies = BandEnergies(rate_hz)
        self._next_sample = 0
        self._next_frame = 0
        """The place on the grid of the next frame."""
        self._frames: dict[int, Floats] = {}
        self._lock = threading.Lock()

    def add(self, first_sample: int, samples: Samples, at_s: float) -> None:
        """Add the next samples of a reply, from sample `first_sample` of it on, which is played at `at_s`."""
        if not self.is_wanted:
            return
        if first_sample == 0 or first_sample != self._next_sample:
            self._energies = BandEnergies(self._rate_hz)
            self._next_frame = round(at_s / FRAME_S)
        self._next_sample = first_sample + len(samples)
        frames = self._energies.push(samples)
        with self._lock:
            self._frames.update(enumerate(frames, self._next_frame))
        self._next_frame += len(frames)

    def around(self, now_s: float) -> Floats | None:
        """Return the frames that an echo of the last `_COMPARED` frames can be of, oldest first. None: silence."""
        now = round(now_s / FRAME_S)
        first, last = now - _COMPARED - _LATEST, now - _EARLIEST
        with self._lock:
            for frame in [frame for frame in self._frames if frame < now - _KEPT_S / FRAME_S]:
                del self._frames[frame]
            if not any(frame in self._frames for frame in range(first, last)):
                return None
            silence = np.zeros(_BANDS)
            return np.array([self._frames.get(frame, silence) for frame in range(first, last)])


class EchoDetector:
    """Compares the sound of one microphone, at `rate_hz`, with the speech that is played."""

    def __init__(self, played: PlayedSpeech, rate_hz: int, clock: Callable[[], float] = time.monotonic) -> None:
        played.is_wanted = True
        self._clock = clock
        self._played = played
        self._energies = BandEnergies(rate_hz)
        self._recent = np.zeros((0, _BANDS))
        self._unlike_windows = 0

    def push(self, samples: Samples) -> None:
        """Take the next samples of the microphone."""
        self._recent = np.concatenate((self._recent, self._energies.push(samples)))[-_COMPARED:]

    def is_echo(self) -> bool:
        """Return whether the sound that has just come is the echo of what is played. Asked once for each window of a
        sound."""
        played = self._played.around(self._clock())
        if played is None or len(self._recent) < _COMPARED:
            return False
        self._unlike_windows = 0 if likeness(self._recent, played) >= _LIKE else self._unlike_windows + 1
        return self._unlike_windows < _UNLIKE_WINDOWS

    def end_sound(self) -> None:
        """Forget what was found about the last sound."""
        self._unlike_windows = 0


def likeness(sound: Floats, played: Floats) -> float:
    """Return the correlation, -1 to 1, of a sound [T, bands] and the part of what is played that is most like it."""
    sound = _logarithms(sound)
    sound = sound - sound.mean(axis=0)
    return max(_most_like(sound, _logarithms(_in_room(played, stays))) for stays in _ROOMS)


def _most_like(sound: Floats, played: Floats) -> float:
    places = np.lib.stride_tricks.sliding_window_view(played, len(sound), axis=0)  # [places, bands, T]
    places = places - places.mean(axis=2, keepdims=True)
    products = np.einsum("pbt,tb->p", places, sound)
    sizes = np.sqrt(np.einsum("pbt,pbt->p", places, places) * np.square(sound).sum())
    return float(np.max(products / np.maximum(sizes, 1e-9)))


def _in_room(energies: Floats, stays: float) -> Floats:
    """The energies in a room in which this share of the sound stays from one frame to the next."""
    if not stays:
        return energies
    smeared = energies.copy()
    for frame in range(1, len(smeared)):
        smeared[frame] += stays * smeared[frame - 1]
    return smeared


def _logarithms(energies: Floats) -> Floats:
    return np.log(energies + _RANGE * energies.max() + 1e-12)
