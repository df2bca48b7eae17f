"""The speech of one reply on its way to the client: how much was sent, and when a client that plays it ran out."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.metrics import AUDIO_GAP_SECONDS, UNDERRUNS
from gateway.pipeline.deltas import AudioDelta
from services.common.wire.audio import SAMPLE_RATE_HZ


class PlaybackClock:
    """Follows one reply. The client is assumed to play from the first piece on, without network delay.

    A client that gives the text of the reply in pieces makes its pauses itself: while text is still to come
    (`text_complete`), a late piece is no underrun. Neither is a piece that waited because the client took nothing
    before it. Times are monotonic seconds.
    """

    def __init__(self, text_complete: Callable[[], bool] = lambda: True) -> None:
        self._text_complete = text_complete
        self._waits_for_text = False
        """Whether text was still to come when the last piece was sent."""
        self.sent_samples = 0
        """Samples of the reply sent so far, with the piece that is being sent."""
        self.first_s: float | None = None
        """When the first piece was sent. None: not yet."""
        self._start_s = 0.0
        """When playing began, later by the pauses that the client made itself."""
        self.last_s = 0.0
        self.underruns = 0
        self.silence_s = 0.0
        """How long the client had nothing to play, after the first piece."""

    def plays_at_s(self, sample: int) -> float:
        """When a sample is played, if the client plays as assumed."""
        return self._start_s + self.silence_s + sample / SAMPLE_RATE_HZ

    def sent(self, first_sample: int, now_s: float, blocked_s: float = 0.0) -> tuple[float | None, bool]:
        """Note that a piece that begins with `first_sample` (24 kHz) was sent.

        `blocked_s` is how long the client took nothing since the piece before it. Returns the seconds since that piece
        without these, and whether the client had run out of sound.
        """
        waited_for_text, self._waits_for_text = self._waits_for_text, not self._text_complete()
        if self.first_s is None:
            self.first_s = self._start_s = self.last_s = now_s
            return None, False
        gap_s, self.last_s = max(0.0, now_s - self.last_s - blocked_s), now_s
        self._start_s += blocked_s
        late_s = now_s - (self._start_s + self.silence_s + first_sample / SAMPLE_RATE_HZ)
        if late_s <= 0:
            return gap_s, False
        if waited_for_text:
            self._start_s += late_s
            return gap_s, False
        self.silence_s += late_s
        self.underruns += 1
        return gap_s, True


def speech_sent(playback: PlaybackClock, speech: AudioDelta, blocked_s: float = 0.0) -> None:
    """Count a piece of the reply's speech that the client's transport took. `blocked_s`: see `PlaybackClock.sent`."""
    gap_s, ran_dry = playback.sent(speech.first_sample, time.monotonic(), blocked_s)
    if gap_s is not None:
        AUDIO_GAP_SECONDS.observe(gap_s)
    if ran_dry:
        UNDERRUNS.inc()
