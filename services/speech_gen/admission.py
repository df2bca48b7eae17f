"""Who is let in: as many as can be spoken in real time, and whose pages are sure to be there."""

from __future__ import annotations

from services.common.errors import ResourceExhausted
from services.common.wire.audio import FRAME_S
from services.speech_gen.shared_prompts import SharedPrompts
from services.speech_gen.step_times import StepTimes


class Admission:
    """Promises KV pages, all that a stream can come to need, so that an admitted stream never lacks one.

    Args:
        pages: those there are.
        shared_prompts: hold pages too, and give them up when a stream needs them.
        width: most streams a step.
        max_load: share of a frame's 80 ms that a frame of every stream may take; None: any.
    """

    def __init__(self, pages: int, shared_prompts: SharedPrompts, *, width: int, max_load: float | None) -> None:
        self._pages = pages
        self._shared_prompts = shared_prompts
        self._width = width
        self._max_load = max_load
        self._promised_pages = 0

    def check_pace(self, streams: int, times: StepTimes) -> None:
        """Raises `ResourceExhausted` when so many streams would make steps too slow for those who are speaking.

        A stream alone passes however slow the device is.
        """
        if streams == 1 or self._max_load is None:
            return
        full_steps, rest = divmod(streams, self._width)
        frame_s = full_steps * times.expected_s(self._width) + times.expected_s(rest)
        if frame_s > self._max_load * FRAME_S:
            raise ResourceExhausted(
                f"expected a frame of all streams to take {self._max_load * FRAME_S * 1e3:.0f} ms or less, with "
                f"{streams} it would take {frame_s * 1e3:.0f} ms",
                lacks="step_time",
            )

    def make_room(self, pages: int) -> None:
        """Evict shared prompts until so many pages can be promised. Raises `ResourceExhausted`."""
        while self._promised_pages + self._shared_prompts.pages + pages > self._pages:
            if not self._shared_prompts.evict_one():
                raise ResourceExhausted(
                    f"expected {pages} KV pages free for this speech, {self._promised_pages} of {self._pages} are "
                    "promised to others",
                    lacks="kv_pages",
                )

    def promise(self, pages: int) -> None:
        """Keep these pages for a stream."""
        self._promised_pages += pages

    def give_back(self, pages: int) -> None:
        """A stream left, or shares these pages with others now."""
        self._promised_pages -= pages
