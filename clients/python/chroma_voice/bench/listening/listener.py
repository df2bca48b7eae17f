"""The listener of one reply: when the first sound is heard, where gaps are, and how evenly pieces arrive."""

from __future__ import annotations

import numpy as np

from chroma_voice.bench.listening.playback import SOUND_CARD_S, PlaybackClock

SILENCE = round(32768 * 10 ** (-50 / 20))
"""A 16-bit sample up to this size (-50 dBFS) counts as silence."""


def first_audible(samples: np.ndarray) -> int | None:
    """Return the index of the first sample [S] of int16 above silence; None when there is none."""
    loud = np.abs(samples.astype(np.int32)) > SILENCE
    return int(loud.argmax()) if loud.any() else None


def audible_part(samples: np.ndarray) -> np.ndarray:
    """Return the samples [S] of int16 without the silence at both ends; empty when all is silence."""
    (loud,) = np.nonzero(np.abs(samples.astype(np.int32)) > SILENCE)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


class Listener:
    """Plays one reply: 16-bit little-endian mono PCM at `rate_hz`. All times are seconds of any one clock."""

    def __init__(self, rate_hz: int, *, buffer_s: float = 0.0, tolerance_s: float = SOUND_CARD_S) -> None:
        self.clock = PlaybackClock(buffer_s=buffer_s, tolerance_s=tolerance_s)
        self.first_piece_s: float | None = None
        """When the first piece of sound arrived, silent or not."""
        self.first_sound_s: float | None = None
        """When the first sample above silence was played."""
        self.sound_s = 0.0
        """Seconds of sound that arrived."""
        self.silent_s: float | None = None
        """When the player was stopped, or had played all, whichever came first. None: it was not stopped."""
        self._rate_hz = rate_hz
        self._last_s = 0.0
        self._last_sound_s = 0.0
        self._unevenness_s: list[float] = []

    def receive(self, data: bytes, now_s: float) -> None:
        """Take a piece of sound. After `stop` it is not played."""
        samples = np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2")
        if not len(samples) or self.silent_s is not None:
            return
        if self.first_piece_s is None:
            self.first_piece_s = now_s
        else:
            self._unevenness_s.append(abs(now_s - self._last_s - self._last_sound_s))
        self._last_s, self._last_sound_s = now_s, len(samples) / self._rate_hz
        plays_s = self.clock.add(now_s, self._last_sound_s)
        self.sound_s += self._last_sound_s
        if self.first_sound_s is None and (index := first_audible(samples)) is not None:
            self.first_sound_s = plays_s + index / self._rate_hz

    def stop(self, now_s: float) -> None:
        """Stop the player now, if it was not stopped before."""
        if self.silent_s is None:
            ends_s = self.clock.ends_s
            self.silent_s = now_s if ends_s is None else min(now_s, ends_s)

    def has_heard_all(self, now_s: float) -> bool:
        """Whether all the sound so far has been played."""
        ends_s = self.clock.ends_s
        return ends_s is None or now_s >= ends_s

    @property
    def jitter_s(self) -> float | None:
        """Mean difference between the time from piece to piece and the sound of the first. None below two pieces."""
        return sum(self._unevenness_s) / len(self._unevenness_s) if self._unevenness_s else None

    @property
    def real_time_factor(self) -> float | None:
        """Seconds from the first to the last piece for each second of sound before the last. None below two pieces."""
        before_last_s = self.sound_s - self._last_sound_s
        if self.first_piece_s is None or before_last_s <= 0:
            return None
        return (self._last_s - self.first_piece_s) / before_last_s
