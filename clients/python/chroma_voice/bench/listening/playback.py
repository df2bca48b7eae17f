"""The playback clock of one reply: when each piece of its sound is played, and where the listener hears a gap."""

from __future__ import annotations

from dataclasses import dataclass

SOUND_CARD_S = 0.010
"""A piece that is late by less than this leaves no gap: a sound card holds at least 10 ms of sound."""


@dataclass(frozen=True)
class Gap:
    """A silence in the middle of a reply, because its next piece was late. `at_s` is when it began."""

    at_s: float
    length_s: float


class PlaybackClock:
    """A player that begins `buffer_s` after the first piece arrives, and waits for each piece that is late.

    All times are seconds of any one clock. Lateness below `tolerance_s` is no gap. It is not forgiven either: it adds
    up until it is one.
    """

    def __init__(self, *, buffer_s: float = 0.0, tolerance_s: float = SOUND_CARD_S) -> None:
        self.gaps: list[Gap] = []
        self._buffer_s = buffer_s
        self._tolerance_s = tolerance_s
        self._stretches: list[tuple[float, float]] = []
        """Stretches of sound without a gap: when each begins, and its seconds."""

    @property
    def ends_s(self) -> float | None:
        """When all the sound so far has been played. None: there was none."""
        if not self._stretches:
            return None
        begins_s, sound_s = self._stretches[-1]
        return begins_s + sound_s

    def add(self, now_s: float, sound_s: float) -> float:
        """Add a piece that arrives now. Returns when it is played."""
        ends_s = self.ends_s
        if ends_s is None:
            self._stretches.append((now_s + self._buffer_s, 0.0))
        elif now_s > ends_s + self._tolerance_s:
            self.gaps.append(Gap(ends_s, now_s - ends_s))
            self._stretches.append((now_s, 0.0))
        begins_s, before_s = self._stretches[-1]
        self._stretches[-1] = (begins_s, before_s + sound_s)
        return begins_s + before_s

    def heard_s(self, now_s: float) -> float:
        """Return how many seconds of the reply have been played until now."""
        return sum(min(max(0.0, now_s - begins_s), sound_s) for begins_s, sound_s in self._stretches)

    def reaches_s(self, heard_s: float) -> float | None:
        """Return when `heard_s` seconds of the reply have been played. None: so much sound has not come."""
        left_s = heard_s
        for begins_s, sound_s in self._stretches:
            if left_s <= sound_s:
                return begins_s + left_s
            left_s -= sound_s
        return None
