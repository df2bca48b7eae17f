"""What goes into a turn: the user's own words and speech, or the text of a reply that the caller gives.

Both are kept until the turn ends, so that the Think stream can start while they still come, can be started again from
their beginning, and can be recorded. Both are bounded by stated limits.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator

import numpy as np

from chroma.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioEncoding, AudioFormat
from chroma.v1.reasoner_pb2 import Commit, ThinkRequest, UserAudio
from gateway.audio.resample import SILENCE_RMS, Resampler
from services.common.errors import ChromaError, InvalidArgument, OutOfRange
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import Samples, decode_pcm, encode_pcm

_PIECE_BYTES = 64 * 1024


class TurnInput(ABC):
    """The input side of a turn. `fail` makes the turn fail with an error of the input."""

    def __init__(self) -> None:
        self.committed = asyncio.Event()
        """The reply may start."""
        self.complete = asyncio.Event()
        """Nothing more comes: from now on the stages owe the reply."""
        self.parts: list[str | bytearray] = []
        """What the user said, in order: text, or PCM at 16 kHz in `encoding`."""
        self.encoding: AudioEncoding.ValueType = AUDIO_ENCODING_UNSPECIFIED
        self.audio_s = 0.0
        self._error: ChromaError | None = None
        self._news = asyncio.Event()

    @abstractmethod
    def requests(self) -> AsyncGenerator[ThinkRequest, None]:
        """All Think requests after `open`, from the beginning, as they come. Raises the input's error, if any."""

    def fail(self, error: ChromaError) -> None:
        """Make `requests` raise `error`. The first error counts."""
        self._error = self._error or error
        self._news.set()

    async def _more(self) -> None:
        """Wait for news since the last call. Raises the input's error."""
        if self._error is None:
            await self._news.wait()
        self._news.clear()
        if self._error is not None:
            raise self._error


class UserInput(TurnInput):
    """The user's turn: text and speech in the order in which they came.

    Speech is kept at 16 kHz in the encoding the client sends, which is what the reasoner hears now and what the
    history will hold: so a later turn, on any replica, sees the very same samples.
    """

    def __init__(self, audio_format: AudioFormat | None, *, max_audio_s: float, max_chars: int) -> None:
        super().__init__()
        if audio_format is not None:
            self.encoding = audio_format.encoding
        self._rate_hz = audio_format.sample_rate_hz if audio_format else 0
        self._max_audio_s = max_audio_s
        self._chars_left = max_chars
        self._resampler: Resampler | None = None
        self._before_s = 0.0
        """`audio_s` without the audio part under way."""
        self._energy = 0.0
        self._samples = 0

    def hear(self, data: bytes) -> None:
        """Take samples in the client's format. A bad sample or too much speech makes the turn fail."""
        if self._error is not None:
            return
        try:
            samples = decode_pcm(data, self.encoding)
        except InvalidArgument as error:
            self.fail(error)
        else:
            self.take(samples)

    def take(self, samples: Samples) -> None:
        """Take samples [S] at the client's rate; none start no recording. Too much speech makes the turn fail."""
        if self._error is not None or not len(samples):
            return
        before_s, self.audio_s = self.audio_s, self.audio_s + len(samples) / self._rate_hz
        if self.audio_s > self._max_audio_s:
            self.fail(OutOfRange(f"expected at most {self._max_audio_s:g} s of speech in a turn, got more"))
            return
        if self._resampler is None:
            self._resampler, self._before_s = Resampler(self._rate_hz, HEARING_RATE_HZ), before_s
            self.parts.append(bytearray())
        self._samples += len(samples)
        self._energy += float(np.dot(samples, samples))
        self._keep(self._resampler.push(samples))

    def read(self, text: str) -> None:
        """Take a text part. Too much text makes the turn fail."""
        self._chars_left -= len(text)
        if self._chars_left < 0:
            self.fail(OutOfRange("the turn's text is longer than the stated limit"))
        elif text:
            self.end_audio()
            self.parts.append(text)
            self._news.set()

    def commit(self) -> None:
        """End the turn. An empty or silent one fails."""
        self.end_audio()
        if not any(self.parts):
            self.fail(InvalidArgument("expected audio or text before the commit, got an empty turn"))
        elif self._samples and math.sqrt(self._energy / self._samples) < SILENCE_RMS:
            self.fail(InvalidArgument(f"expected speech, got {self.audio_s:.2f} s of silence"))
        self.committed.set()
        self.complete.set()
        self._news.set()

    async def requests(self) -> AsyncGenerator[ThinkRequest, None]:
        index = offset = 0
        while True:
            while index < len(self.parts):
                part = self.parts[index]
                if isinstance(part, str):
                    yield ThinkRequest(text=part)
                else:
                    while offset < len(part):
                        piece = bytes(part[offset : offset + _PIECE_BYTES])
                        offset += len(piece)
                        yield ThinkRequest(audio=UserAudio(data=piece))
                    if index == len(self.parts) - 1 and not self.committed.is_set():
                        break
                    if index + 1 < len(self.parts) and isinstance(self.parts[index + 1], bytearray):
                        yield ThinkRequest(audio=UserAudio(end_of_part=True))
                index, offset = index + 1, 0
            if self.committed.is_set() and self._error is None:
                yield ThinkRequest(commit=Commit())
                return
            await self._more()

    def end_audio(self) -> bool:
        """End the audio part under way: more audio makes another one. False if there is none."""
        if self._resampler is None:
            return False
        self._keep(self._resampler.finish())
        self._resampler = None
        return True

    def drop_audio(self) -> None:
        """Forget the audio part under way, if there is one. Whoever read it already must read anew."""
        if self._resampler is not None:
            self._resampler = None
            self.audio_s = self._before_s
            self.parts.pop()

    def _keep(self, samples: Samples) -> None:
        part = self.parts[-1]
        assert isinstance(part, bytearray), "the last part is audio while its resampler lives"
        part += encode_pcm(samples, self.encoding)
        self._news.set()


class ForcedReply(TurnInput):
    """A reply whose text the caller gives, in pieces. There is no turn of the user; it is committed from the start."""

    def __init__(self, *, max_chars: int) -> None:
        super().__init__()
        self._pieces: list[str] = []
        self._chars_left = max_chars
        self.committed.set()

    def say(self, text: str, *, end: bool) -> None:
        """Take a piece. Too much text, or none at all by the end, makes the turn fail."""
        self._chars_left -= len(text)
        if self._chars_left < 0:
            self.fail(OutOfRange("the text to say is longer than the stated limit"))
        elif text:
            self._pieces.append(text)
        if end:
            if not self._pieces:
                self.fail(InvalidArgument("expected text to say, got none"))
            self.complete.set()
        self._news.set()

    async def requests(self) -> AsyncGenerator[ThinkRequest, None]:
        yield ThinkRequest(commit=Commit())
        said = 0
        while True:
            while said < len(self._pieces):
                said += 1
                yield ThinkRequest(given_text=self._pieces[said - 1])
            if self.complete.is_set() and self._error is None:
                return
            await self._more()
