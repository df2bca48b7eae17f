"""The input of a turn: the user's text and speech, or the text of a reply that the client gives.

The whole input is kept until the turn ends. So the Think call can start while input still comes, can start again from
the beginning, and the turn can be recorded. Stated limits bound it.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator

from chroma.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioEncoding, AudioFormat
from chroma.v1.reasoner_pb2 import Commit, ThinkRequest, UserAudio
from gateway.audio.resample import Resampler, energy_of, is_silent
from services.common.errors import ChromaError, InvalidArgument, OutOfRange
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import Samples, decode_pcm, encode_pcm

_PIECE_BYTES = 64 * 1024


class TurnInput(ABC):
    """The input of one turn. Its first error, given to `fail`, makes the turn fail."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        """When the first input came. The turn's time limit counts from here."""
        self.committed = asyncio.Event()
        """Set when the reply may start."""
        self.complete = asyncio.Event()
        """Set when no input will follow: from then on the upstreams wait for no person."""
        self.parts: list[str | bytearray] = []
        """The user's input in order: text, or PCM at 16 kHz in `encoding`."""
        self.encoding: AudioEncoding.ValueType = AUDIO_ENCODING_UNSPECIFIED
        self.audio_s = 0.0
        self._error: ChromaError | None = None
        self._news = asyncio.Event()

    @abstractmethod
    def requests(self) -> AsyncGenerator[ThinkRequest, None]:
        """Yield all Think requests after `open`, from the beginning, as they come. Raises the input's error."""

    def fail(self, error: ChromaError) -> None:
        """Make `requests` raise `error`. Only the first error counts."""
        self._error = self._error or error
        self._news.set()

    async def _wait_for_news(self) -> None:
        """Wait for input since the last call. Raises the input's error."""
        if self._error is None:
            await self._news.wait()
        self._news.clear()
        if self._error is not None:
            raise self._error


class UserInput(TurnInput):
    """The user's turn: text and speech in the order in which they came.

    Speech is kept at 16 kHz in the client's encoding. The reasoner gets these samples now, and gets the same ones from
    the history in later turns, on any replica.
    """

    def __init__(self, audio_format: AudioFormat | None, *, max_audio_s: float, max_chars: int) -> None:
        super().__init__()
        if audio_format is not None:
            self.encoding = audio_format.encoding
        self._rate_hz = audio_format.sample_rate_hz if audio_format else 0
        self._max_audio_s = max_audio_s
        self._chars_left = max_chars
        self._resampler: Resampler | None = None
        """The resampler of the audio part under way. None: there is none."""
        self._samples, self._energy = 0, 0.0
        """All samples of the turn, and the sum of their squares."""
        self._before_part = (0.0, 0, 0.0)
        """`audio_s`, `_samples` and `_energy` without the audio part under way."""

    def add_audio(self, data: bytes) -> None:
        """Add PCM in the client's format. A broken sample or too much speech makes the turn fail."""
        if self._error is not None:
            return
        try:
            samples = decode_pcm(data, self.encoding)
        except InvalidArgument as error:
            self.fail(error)
        else:
            self.add_samples(samples)

    def add_samples(self, samples: Samples) -> None:
        """Add samples [S] at the client's rate. Zero samples start no audio part. Too much speech makes the turn
        fail."""
        if self._error is not None or not len(samples):
            return
        if self._resampler is None:
            self._resampler = Resampler(self._rate_hz, HEARING_RATE_HZ)
            self._before_part = self.audio_s, self._samples, self._energy
            self.parts.append(bytearray())
        self.audio_s += len(samples) / self._rate_hz
        if self.audio_s > self._max_audio_s:
            self.fail(OutOfRange(f"expected at most {self._max_audio_s:g} s of speech in a turn, got more"))
            return
        self._samples += len(samples)
        self._energy += energy_of(samples)
        self._extend_part(self._resampler.push(samples))

    def add_text(self, text: str) -> None:
        """Add a text part. Too much text makes the turn fail."""
        self._chars_left -= len(text)
        if self._chars_left < 0:
            self.fail(OutOfRange("the turn's text is longer than the stated limit"))
        elif text:
            self.end_audio()
            self.parts.append(text)
            self._news.set()

    def commit(self) -> None:
        """End the input. An empty or silent turn fails."""
        self.end_audio()
        if not any(self.parts):
            self.fail(InvalidArgument("expected audio or text before the commit, got an empty turn"))
        elif self._samples and is_silent(self._energy, self._samples):
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
            await self._wait_for_news()

    def end_audio(self) -> bool:
        """End the audio part under way; later audio makes another part. False if there is none."""
        if self._resampler is None:
            return False
        self._extend_part(self._resampler.finish())
        self._resampler = None
        return True

    def drop_audio(self) -> None:
        """Remove the audio part under way, if there is one. A Think call that has sent some of it must start again."""
        if self._resampler is not None:
            self._resampler = None
            self.audio_s, self._samples, self._energy = self._before_part
            self.parts.pop()

    def _extend_part(self, samples: Samples) -> None:
        part = self.parts[-1]
        assert isinstance(part, bytearray), "the last part is audio while its resampler lives"
        part += encode_pcm(samples, self.encoding)
        self._news.set()


class ForcedReply(TurnInput):
    """A reply whose text the client gives, in pieces. It has no input of the user and is committed from the start."""

    def __init__(self, *, max_chars: int) -> None:
        super().__init__()
        self._pieces: list[str] = []
        self._chars_left = max_chars
        self.committed.set()

    def add_text(self, text: str, *, end: bool) -> None:
        """Add a piece of the text; `end` marks the last one. Too much text, or none at the end, makes the turn fail."""
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
        sent = 0
        while True:
            while sent < len(self._pieces):
                sent += 1
                yield ThinkRequest(given_text=self._pieces[sent - 1])
            if self.complete.is_set() and self._error is None:
                return
            await self._wait_for_news()
