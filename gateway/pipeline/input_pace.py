"""The pace of a turn's input before its commit: whether enough of it comes to keep a slot of the reasoner."""

from __future__ import annotations

import asyncio
import time

from gateway.pipeline.turn_input import TurnInput

_DRAIN = 0.5
"""Credit that a second of waiting costs. Speech that comes at half the speed of talking keeps its slot."""
_RESUME = 0.5
"""Credit at which a turn without a slot gets one again: a second of speech at the speed of talking."""


class InputPace:
    """A credit that audio fills and waiting empties, so that a trickle of audio does not keep a slot.

    A second of audio adds one, a second of time takes half. The credit is full at first and lasts for `idle_s` without
    any audio. Text adds nothing: a turn of text is committed at once as a rule.
    """

    def __init__(self, source: TurnInput, idle_s: float) -> None:
        self._source = source
        self._most = idle_s * _DRAIN
        self._credit = self._most
        self._audio_s = source.audio_s
        self._at_s = time.monotonic()

    async def stalled(self) -> None:
        """Wait until too little input comes. Never ends once the turn is committed."""
        while (credit := self._update()) > 0 and not self._source.committed.is_set():
            try:
                async with asyncio.timeout(credit / _DRAIN):
                    await self._source.committed.wait()
            except TimeoutError:
                continue
        if self._source.committed.is_set():
            await asyncio.Event().wait()

    async def resumed(self) -> None:
        """Wait until input comes again, or the commit. Raises the input's error."""
        while not self._source.committed.is_set() and self._update() < min(_RESUME, self._most):
            await self._source.wait_for_news()
        self._update()

    def _update(self) -> float:
        now_s, audio_s = time.monotonic(), self._source.audio_s
        gained = (audio_s - self._audio_s) - _DRAIN * (now_s - self._at_s)
        self._at_s, self._audio_s = now_s, audio_s
        self._credit = min(self._most, max(0.0, self._credit + gained))
        return self._credit
