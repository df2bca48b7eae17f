"""Cuts long silence from the ends of a recording while it is decoded, and bounds what is kept of it."""

from __future__ import annotations

import numpy as np

from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples

KEPT_SILENCE_S = 1.0
"""Silence at an end of a recording that is kept. More is cut: it is no speech, and a model has to read it."""

_BLOCK_S = 0.1
_SOUND_RMS = 1e-3
"""A block of 100 ms that deviates less from its mean (-60 dBFS) is silence here: a quiet room, or a constant offset."""


class TooLong(InvalidArgument):
    """A recording is longer than the stated limit."""


class Trimmer:
    """Takes a recording piece by piece. Keeps it from shortly before its first sound to shortly after its last.

    Silence between two sounds stays as it is. A recording without sound is kept whole if it is within the limit.
    """

    def __init__(self, rate_hz: int, max_s: float, kept_silence_s: float = KEPT_SILENCE_S) -> None:
        """`max_s`: the most that is kept, with at most `kept_silence_s` of silence at each end."""
        self._max_samples = int(max_s * rate_hz)
        self._block_samples = int(_BLOCK_S * rate_hz)
        self._silence_blocks = round(kept_silence_s / _BLOCK_S)
        self._blocks: list[Samples] = []
        self._partial: list[Samples] = []
        self._partial_samples = 0
        self._samples = 0
        """Samples since the first block that is kept, also of silence that does not fit."""
        self._end_block = 0
        """The number of blocks up to the last sound. 0: there was none."""
        self.was_cut = False
        """Whether some of the recording's silence is not kept."""

    @property
    def has_sound(self) -> bool:
        """Whether a sound was taken."""
        return self._end_block > 0

    def push(self, samples: Samples) -> None:
        """Take samples [S]. Raises TooLong for a sound beyond the limit."""
        self._partial.append(samples)
        self._partial_samples += len(samples)
        if self._partial_samples < self._block_samples:
            return
        joined = np.concatenate(self._partial)
        whole = len(joined) - len(joined) % self._block_samples
        for begin in range(0, whole, self._block_samples):
            self._take(joined[begin : begin + self._block_samples])
        self._partial = [joined[whole:]]
        self._partial_samples = len(joined) - whole

    def finish(self) -> Samples:
        """Return what is kept [S]. Raises TooLong."""
        if self._partial_samples:
            self._take(np.concatenate(self._partial))
        if self.has_sound:
            kept = self._end_block + self._silence_blocks
            self.was_cut |= len(self._blocks) > kept
            del self._blocks[kept:]
        return np.concatenate([np.zeros(0, dtype=np.float32), *self._blocks])[: self._max_samples]

    def _take(self, block: Samples) -> None:
        has_sound = float(np.std(block, dtype=np.float64)) >= _SOUND_RMS
        self._samples += len(block)
        if has_sound and not self.has_sound:
            self._drop_silence()
        elif not self.has_sound and self._samples > self._max_samples:
            self._blocks.append(block)
            self._drop_silence()
            return
        if has_sound and self._samples > self._max_samples:
            raise TooLong("more")
        if self._samples - len(block) < self._max_samples:
            self._blocks.append(block)
        if has_sound:
            self._end_block = len(self._blocks)

    def _drop_silence(self) -> None:
        """Drop the silence before the first sound but its end."""
        excess = len(self._blocks) - self._silence_blocks
        if excess > 0:
            self._samples -= sum(map(len, self._blocks[:excess]))
            del self._blocks[:excess]
            self.was_cut = True
