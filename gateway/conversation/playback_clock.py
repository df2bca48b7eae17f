"""The speech of one reply on its way to the client: how much was sent, and when a client that plays it ran out."""

from __future__ import annotations

from services.common.wire.audio import SAMPLE_RATE_HZ


class PlaybackClock:
    """Follows one reply. The client is assumed to play from the first piece on, without network delay.

    Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self.sent_samples = 0
        """Samples of the reply sent so far, with the piece that is being sent."""
        self.first_s: float | None = None
        """When the first piece was sent. None: not yet."""
        self.last_s = 0.0
        self.underruns = 0
        self.silence_s = 0.0
        """How long the client had nothing to play, after the first piece."""

    def sent(self, first_sample: int, now_s: float) -> tuple[float | None, bool]:
        """Note that a piece that begins with `first_sample` (24 kHz) was sent.

        Returns the seconds since the piece before it, and whether the client had run out of sound.
        """
        if self.first_s is None:
            self.first_s = self.last_s = now_s
            return None, False
        gap_s, self.last_s = now_s - self.last_s, now_s
        late_s = now_s - (self.first_s + self.silence_s + first_sample / SAMPLE_RATE_HZ)
        if late_s <= 0:
            return gap_s, False
        self.silence_s += late_s
        self.underruns += 1
        return gap_s, True
