"""The client's audio before it enters a turn: with turn detection, where the user's speech starts and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import Started, Stopped, TurnDetector
from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples, decode_pcm

ResultT = TypeVar("ResultT")

_PIECES_PER_S = 10
"""A piece of 100 ms takes about 5 ms of a core."""

_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vad")
"""Detects the turns of all conversations. Each conversation has at most one piece here, so the queue is bounded by
`max_conversations`, and a long message lets the pieces of other conversations in between."""


class InputAudioBuffer:
    """One client's audio. With turn detection it holds the audio that may still become part of a turn, else nothing."""

    def __init__(self) -> None:
        self._options = ConversationOptions()
        self._detector: TurnDetector | None = None

    @property
    def detects_turns(self) -> bool:
        """Whether turn detection is on."""
        return self._detector is not None

    def set_options(self, options: ConversationOptions) -> Samples:
        """Take audio in another format, or detect turns differently, from here on.

        Returns the rest of the speech under way, for its turn. Raises InvalidArgument for bad turn detection.
        """
        before, self._options = self._options, options
        if (options.turn_detection, options.input_format) == (before.turn_detection, before.input_format):
            return _NO_SAMPLES
        rest = self.cut()
        self._detector = None
        if options.turn_detection is not None and options.input_format is not None:
            self._detector = TurnDetector(options.turn_detection, options.input_format.sample_rate_hz)
        return rest

    async def decode(self, data: bytes) -> list[Samples]:
        """The samples of a message in pieces of 100 ms, for `detect`. Raises InvalidArgument for broken samples."""
        audio_format = self._options.input_format
        if audio_format is None:
            raise InvalidArgument("expected no audio: `open` gave no `input_format`")
        samples = await _in_thread(lambda: decode_pcm(data, audio_format.encoding))
        size = audio_format.sample_rate_hz // _PIECES_PER_S
        return [samples[start : start + size] for start in range(0, len(samples), size)]

    async def detect(self, samples: Samples) -> list[Started | Samples | Stopped]:
        """Detect turns in the next samples [S]: for each turn its start, its speech in pieces, its stop.

        The detector runs in a thread. One call at a time; a cancelled call ends when the thread has left the detector.
        """
        detector = self._detector
        assert detector is not None, "turn detection is on"
        return await _in_thread(lambda: list(detector.push(samples)))

    def cut(self) -> Samples:
        """End the speech under way here, for a client that ends its turn itself. Returns the rest of the speech."""
        return self._detector.cut() if self._detector is not None else _NO_SAMPLES


_NO_SAMPLES = np.zeros(0, dtype=np.float32)


async def _in_thread(work: Callable[[], ResultT]) -> ResultT:
    done = asyncio.get_running_loop().run_in_executor(_THREAD, work)
    try:
        return await asyncio.shield(done)
    finally:
        if not done.done():
            await asyncio.wait([done])
