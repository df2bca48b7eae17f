"""The client's audio before it enters a turn: whole samples, and with turn detection where speech starts and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from chroma.v1.audio_pb2 import AudioFormat
from gateway.audio.echo import EchoDetector, PlayedSpeech
from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import Started, Stopped, TurnDetector
from gateway.settings import GatewaySettings
from services.common.errors import InvalidArgument
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import Samples, decode_pcm, sample_bytes

ResultT = TypeVar("ResultT")

_PIECES_PER_S = 10
"""Pieces of 100 ms: a long message of one client delays the others by one piece only."""

_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vad")
"""Detects the turns of all conversations. Each conversation has at most one piece here, so the queue is bounded by
`max_conversations`, and a long message lets the pieces of other conversations in between."""


class InputAudioBuffer:
    """One client's audio. With turn detection it holds the audio that may still become part of a turn, else only the
    bytes of a sample that is not whole."""

    def __init__(self, limits: GatewaySettings, played: PlayedSpeech) -> None:
        self._limits = limits
        self._played = played
        """What the client plays, whose echo may be ignored."""
        self._options = ConversationOptions()
        self._detector: TurnDetector | None = None
        self._cut_sample = b""
        """The first bytes of a sample whose other bytes are in the next message."""
        self._speaks = asyncio.Event()
        """Set while turn detection is in the middle of a turn."""
        self._last_audio_s = 0.0
        """When the client's last audio was detected, in the loop's time."""

    @property
    def detects_turns(self) -> bool:
        """Whether turn detection is on."""
        return self._detector is not None

    @property
    def options(self) -> ConversationOptions:
        """The options in use."""
        return self._options

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
            detection = options.turn_detection
            if detection.speech_ms is None:
                detection = replace(detection, speech_ms=round(1000 * self._limits.turn_speech_s))
            ignores_echo = self._limits.ignore_echo if detection.ignore_echo is None else detection.ignore_echo
            echo = EchoDetector(self._played, HEARING_RATE_HZ) if ignores_echo else None
            self._detector = TurnDetector(detection, options.input_format.sample_rate_hz, echo)
        return rest

    def whole_samples(self, data: bytes) -> bytes:
        """Return a message's audio up to its last whole sample, with the bytes of a sample that the message before it
        began. Raises InvalidArgument when the conversation has no audio."""
        data = self._cut_sample + data
        whole = len(data) - len(data) % sample_bytes(self._format().encoding)
        self._cut_sample = data[whole:]
        return data[:whole]

    async def decode(self, data: bytes) -> list[Samples]:
        """The samples of a message in pieces of 100 ms, for `detect`. Raises InvalidArgument for broken samples."""
        audio_format = self._format()
        samples = await _in_thread(lambda: decode_pcm(data, audio_format.encoding))
        size = audio_format.sample_rate_hz // _PIECES_PER_S
        return [samples[start : start + size] for start in range(0, len(samples), size)]

    async def detect(self, samples: Samples) -> list[Started | Samples | Stopped]:
        """Detect turns in the next samples [S]: for each turn its start, its speech in pieces, its stop.

        The detector runs in a thread. One call at a time; a cancelled call ends when the thread has left the detector.
        """
        detector = self._detector
        assert detector is not None, "turn detection is on"
        found = await _in_thread(lambda: list(detector.push(samples)))
        self._last_audio_s = asyncio.get_running_loop().time()
        if detector is self._detector and detector.speaking:
            self._speaks.set()
        else:
            self._speaks.clear()
        return found

    async def audio_stops(self) -> None:
        """Wait until the client's audio stays away in the middle of a turn, as when its microphone is muted."""
        now_s = asyncio.get_running_loop().time
        while True:
            await self._speaks.wait()
            if (wait_s := self._gap_ends_s() - now_s()) <= 0:
                return
            await asyncio.sleep(wait_s)

    def end_stopped_audio(self) -> list[Samples | Stopped]:
        """End the turn whose audio stays away. Returns the rest of its audio and its stop; nothing when audio has come
        in the meantime."""
        if not self._speaks.is_set() or self._gap_ends_s() > asyncio.get_running_loop().time():
            return []
        assert self._detector is not None, "turn detection is in the middle of a turn"
        at_ms = self._detector.position_ms
        return [self.cut(), Stopped(at_ms)]

    def close(self) -> None:
        """Give back the detector and its audio. The conversation has ended."""
        self._options = ConversationOptions()
        self._detector = None
        self._cut_sample = b""
        self._speaks.clear()

    def cut(self) -> Samples:
        """End the speech under way here, for a client that ends its turn itself. Returns the rest of the speech.

        The bytes of a sample that is not whole are dropped.
        """
        self._cut_sample = b""
        self._speaks.clear()
        return self._detector.cut() if self._detector is not None else _NO_SAMPLES

    def _format(self) -> AudioFormat:
        if self._options.input_format is None:
            raise InvalidArgument("expected no audio: `open` gave no `input_format`")
        return self._options.input_format

    def _gap_ends_s(self) -> float:
        detection = self._options.turn_detection
        silence_s = detection.silence_ms / 1000 if detection is not None else 0.0
        return self._last_audio_s + silence_s + self._limits.turn_gap_s


_NO_SAMPLES = np.zeros(0, dtype=np.float32)


async def _in_thread(work: Callable[[], ResultT]) -> ResultT:
    done = asyncio.get_running_loop().run_in_executor(_THREAD, work)
    try:
        return await asyncio.shield(done)
    finally:
        if not done.done():
            await asyncio.wait([done])
