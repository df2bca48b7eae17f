"""Turn detection: where the user's speech starts and stops in an endless stream of audio.

    silent --a window of speech--> sound --`speech_ms` of speech--> speaking --`silence_ms` without speech--> silent
                                     |~100 ms without speech: silent

A sound that is shorter than `speech_ms`, such as a click or a cough, makes no turn. A turn begins `prefix_ms` before
its first window of speech and ends with the silence. Each decision is about a whole window of 32 ms, counted from the
start of the stream. So any chunking of the stream gives the same turns, to the sample.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gateway.audio.echo import EchoDetector
from gateway.audio.resample import Resampler, energy_of
from gateway.audio.silero import WINDOW_SAMPLES, SileroState, silero_network
from services.common.errors import InvalidArgument
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import Samples

_WINDOW_MS = 1000 * WINDOW_SAMPLES / HEARING_RATE_HZ
_HYSTERESIS = 0.15
"""Speech starts at `threshold` and goes on until the probability is this much below it. The value is silero's own."""
MIN_SILENCE_MS, MAX_MS = 50, 10_000
SPEECH_MS = 200
"""The least speech of a turn where neither the client nor the settings say another."""
MAX_SPEECH_MS = 2_000
_LONG_WINDOWS, _MOST_WINDOWS = 16, 64
"""A sound of more windows is compared with itself, and ends when it is this much longer than a turn needs."""
_QUIET_RATIO, _NOISE_RATIO, _NOISE_WINDOWS = 0.01, 2.0, 32
"""A window of a sound counts from this share of its loudest window's energy, and from this multiple of the noise's."""
_GAP_WINDOWS = 3
"""So many windows in a row without speech end a sound that is not a turn yet. Plosives in a word are shorter."""


@dataclass(frozen=True)
class TurnDetection:
    """The settings of turn detection and of its effects."""

    threshold: float = 0.5
    """Probability of speech from which a window counts as speech, above 0 and below 1."""
    silence_ms: int = 500
    """This much without speech ends the turn."""
    prefix_ms: int = 300
    """This much audio before the first window of speech belongs to the turn."""
    speech_ms: int | None = None
    """This much speech starts a turn. The turn begins before it, so no word loses its start. None: as the gateway's
    settings say, 200 by default."""
    respond: bool = True
    """Whether the end of speech commits the turn. If not, the client commits it."""
    interrupt: bool = True
    """Whether speech interrupts a running reply."""
    ignore_echo: bool | None = None
    """Whether a sound that is like the speech being played starts no turn. None: as the gateway's settings say."""

    def check(self) -> None:
        """Check the ranges. Raises InvalidArgument."""
        if not 0 < self.threshold < 1:
            raise InvalidArgument(f"expected a turn detection threshold between 0 and 1, got {self.threshold:g}")
        if not MIN_SILENCE_MS <= self.silence_ms <= MAX_MS:
            raise InvalidArgument(f"expected silence of {MIN_SILENCE_MS} to {MAX_MS} ms, got {self.silence_ms} ms")
        if not 0 <= self.prefix_ms <= MAX_MS:
            raise InvalidArgument(f"expected prefix padding of 0 to {MAX_MS} ms, got {self.prefix_ms} ms")
        if self.speech_ms is not None and not 0 <= self.speech_ms <= MAX_SPEECH_MS:
            raise InvalidArgument(
                f"expected speech of 0 to {MAX_SPEECH_MS} ms to start a turn, got {self.speech_ms} ms"
            )


@dataclass(frozen=True)
class Started:
    """A turn starts at `at_ms` of the stream: its first window of speech, less the prefix."""

    at_ms: int


@dataclass(frozen=True)
class Stopped:
    """A turn ends at `at_ms` of the stream, after its silence."""

    at_ms: int


class Onset:
    """The sound that may become a turn: from its first window of speech on, while it is shorter than a turn needs.

    The network goes on to see speech for some windows after a short vowel. So a window counts as speech only if it is
    also loud: at most 20 dB below the loudest window of the sound, and 3 dB above the noise before it. A sound that
    goes on is compared with its own quietest window, in case the noise before it was louder.
    """

    def __init__(self, settings: TurnDetection) -> None:
        self.start: int | None = None
        """The first sample of the sound. None: there is no sound."""
        self._threshold = settings.threshold
        speech_ms = SPEECH_MS if settings.speech_ms is None else settings.speech_ms
        self._least_windows = max(1, math.ceil(speech_ms / _WINDOW_MS))
        self._windows: list[tuple[float, bool]] = []
        """The energy of each window of the sound, and whether it is probably speech."""
        self._noise: deque[float] = deque(maxlen=_NOISE_WINDOWS)
        """The energies of the last windows that were neither speech nor in a sound."""

    def add(self, window: Samples, probability: float, start: int) -> bool:
        """Take the next window, which begins with sample `start`. Returns whether the sound has become a turn."""
        energy, is_speech = energy_of(window), probability >= self._threshold
        if self.start is None and not is_speech:
            self._noise.append(energy)
            return False
        self.start = start if self.start is None else self.start
        self._windows.append((energy, is_speech))
        is_over = not any(is_speech for _, is_speech in self._windows[-_GAP_WINDOWS - 1 :])
        if is_over or len(self._windows) > self._least_windows + _MOST_WINDOWS:
            self.end()
            return False
        return self._loud_windows() >= self._least_windows

    def end(self) -> None:
        """End the sound: it has become a turn, or is none."""
        self.start = None
        self._windows.clear()

    def _loud_windows(self) -> int:
        """The loud windows of speech since the last gap."""
        energies = [energy for energy, _ in self._windows]
        noise = sorted(self._noise)[len(self._noise) // 2] if self._noise else 0.0
        if len(energies) > _LONG_WINDOWS:
            noise = min(noise, *energies)
        least = max(max(energies) * _QUIET_RATIO, noise * _NOISE_RATIO)
        count = gap = 0
        for energy, is_speech in reversed(self._windows):
            is_loud = is_speech and energy >= least
            gap = 0 if is_loud else gap + 1
            if gap > _GAP_WINDOWS:
                break
            count += is_loud
        return count


class TurnDetector:
    """Detects the turns of one stream of audio at `rate_hz`.

    All detectors share the network. A detector holds its recurrent state (1 kB), the resampler's, and the audio that
    may still become part of a turn: the prefix and the sound that may become a turn, or the speech since the last
    window.
    """

    def __init__(self, settings: TurnDetection, rate_hz: int, echo: EchoDetector | None = None) -> None:
        settings.check()
        self.settings = settings
        self._echo = echo
        """Tells echoes of played speech. None: every sound counts."""
        self.speaking = False
        """Whether a turn has started and not stopped."""
        self._rate_hz = rate_hz
        self._prefix = settings.prefix_ms * rate_hz // 1000
        self._silence_windows = math.ceil(settings.silence_ms / _WINDOW_MS)
        self._onset = Onset(settings)
        self._silent_windows = 0
        """The windows without speech since the last one with speech in the turn."""
        self._network = silero_network()
        self._state = SileroState()
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
            probability = self._network.speech_probability(window, self._state)
            starts, self._windows = self._sample(self._windows), self._windows + 1
            ends = self._sample(self._windows)
            if not self.speaking:
                is_turn = self._onset.add(window, probability, starts)
                if self._echo is not None:
                    is_turn = self._is_own(self._echo, window, is_turn=is_turn)
                self._drop((ends if self._onset.start is None else self._onset.start) - self._prefix)
                if not is_turn:
                    continue
                self.speaking = True
                yield Started(self._ms(self._first))
            elif probability >= self.settings.threshold - _HYSTERESIS:
                self._silent_windows = 0
            else:
                self._silent_windows += 1
            yield self._take(ends)
            if self._silent_windows >= self._silence_windows:
                self._end_turn()
                yield Stopped(self._ms(ends))

    def cut(self) -> Samples:
        """End the turn here. Returns the rest of its audio: no samples when there is no turn.

        A sound that was too short for a turn so far is forgotten.
        """
        rest = self._kept if self.speaking else self._kept[:0]
        self._first += len(self._kept)
        self._kept = self._kept[:0]
        self._end_turn()
        return rest

    @property
    def position_ms(self) -> int:
        """The length of the stream so far."""
        return self._ms(self._first + len(self._kept))

    def _end_turn(self) -> None:
        self.speaking = False
        self._silent_windows = 0
        self._onset.end()

    def _is_own(self, echo: EchoDetector, window: Samples, *, is_turn: bool) -> bool:
        """Whether a sound has become a turn, and is no echo of what is played."""
        echo.push(window)
        if self._onset.start is None:
            echo.end_sound()
        return is_turn and not echo.is_echo()

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
