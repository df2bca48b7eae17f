"""The listener's clock: when a reply's sound reached a client that plays it from the first piece on."""

from __future__ import annotations

from services.common.wire.audio import SAMPLE_RATE_HZ


class PlaybackClock:
    """Follows one reply. Times are monotonic seconds; the network after the gateway is taken as nothing."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        """When the first sound was sent. None: not yet."""
        self.last_s = 0.0
        self.underruns = 0
        self.silence_s = 0.0
        """How long the listener waited for sound after the first."""

    def receive(self, first_sample: int, now_s: float) -> tuple[float | None, bool]:
        """A piece that begins with `first_sample` (24 kHz) was sent. Returns the seconds since the piece before it, and
        whether the listener had run dry."""
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
