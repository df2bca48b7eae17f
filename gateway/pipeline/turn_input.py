"""The input of a turn: the user's text and speech, or the text of a reply that the client gives.

The whole input is kept until the turn ends. So the Think call can start while input still comes, can start again from
the beginning, and the turn can be recorded. Stated limits bound it.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable

from chroma.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioEncoding, AudioFormat
from chroma.v1.reasoner_pb2 import Commit, ThinkRequest, UserAudio
from gateway.audio.resample import Resampler, energy_of, is_silent
from gateway.text.domain import DomainCheck, quote
from gateway.text.speakable import SpeakableText, is_speakable
from services.common.errors import ChromaError, InvalidArgument, OutOfRange
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import (
    Samples,
    check_pcm,
    decode_pcm,
    encode_pcm,
    pcm_samples,
    sample_bytes,
    sample_count,
)

_PIECE_BYTES = 64 * 1024
_PIECE_S = 0.48
"""Speech goes to the reasoner in pieces of at least this length, before the end of its part: the audio tower computes
chunks of 2 s, so smaller ones would only be more messages."""


_FIRST_LOOK_S = 0.05
"""The first sound waits while the speech is searched for a sound: most speech has one in its first moments."""


def never() -> bool:
    """No, at any time."""
    return False


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
        self._uncounted_s = 0.0
        self._error: ChromaError | None = None
        self._news = asyncio.Event()

    @abstractmethod
    def requests(self, takes_ends_turn: Callable[[], bool] = never) -> AsyncGenerator[ThinkRequest, None]:
        """Yield all Think requests after `open`, from the beginning, as they come. Raises the input's error.

        `takes_ends_turn`: whether the last one may say that it is the last. It is asked when the input has ended.
        """

    def take_uncounted_s(self) -> float:
        """The seconds of audio that came since the last call, also those that were dropped again."""
        taken, self._uncounted_s = self._uncounted_s, 0.0
        return taken

    def count_s(self, audio_s: float) -> None:
        """Add seconds of audio to those that are not counted: audio of the history that came for this turn."""
        self._uncounted_s += audio_s

    def fail(self, error: ChromaError) -> None:
        """Make `requests` raise `error`. Only the first error counts."""
        self._error = self._error or error
        self._news.set()

    def check(self) -> None:
        """Raise the input's error, if there is one."""
        if self._error is not None:
            raise self._error

    async def wait_for_news(self) -> None:
        """Wait for input since the last call. Raises the input's error."""
        if self._error is None:
            await self._news.wait()
        self._news.clear()
        self.check()


class UserInput(TurnInput):
    """The user's turn: text and speech in the order in which they came.

    Speech is kept at 16 kHz in the client's encoding. The reasoner gets these samples now, and gets the same ones from
    the history in later turns, on any replica.
    """

    def __init__(self, audio_format: AudioFormat | None, *, max_audio_s: float, max_chars: int) -> None:
        super().__init__()
        if audio_format is not None:
            self.encoding = audio_format.encoding
        self._format = audio_format
        self._rate_hz = audio_format.sample_rate_hz if audio_format else 0
        self._max_audio_s = max_audio_s
        self._max_chars = self._chars_left = max_chars
        self._resampler: Resampler | None = None
        """The resampler of the audio part under way. None: there is none."""
        self._before_part_s = 0.0
        """`audio_s` without the audio part under way."""

    def add_audio(self, data: bytes) -> None:
        """Add PCM in the client's format. A broken sample or too much speech makes the turn fail."""
        if self._error is not None:
            return
        try:
            if self._rate_hz != HEARING_RATE_HZ:
                self.add_samples(decode_pcm(data, self.encoding))
                return
            check_pcm(data, self.encoding)
        except InvalidArgument as error:
            self.fail(error)
            return
        if self._grow_part(sample_count(data, self.encoding)) is not None:
            self._extend_part(data)

    def add_samples(self, samples: Samples) -> None:
        """Add samples [S] at the client's rate. Zero samples start no audio part. Too much speech makes the turn
        fail."""
        if self._error is None and (resampler := self._grow_part(len(samples))) is not None:
            self._extend_part(encode_pcm(resampler.push(samples), self.encoding))

    def _grow_part(self, samples: int) -> Resampler | None:
        """Begin an audio part if there is none, and count so many samples of it at the client's rate. Returns the
        resampler of the part. None: nothing can be added."""
        if not samples:
            return None
        if self._resampler is None:
            self._resampler = Resampler(self._rate_hz, HEARING_RATE_HZ)
            self._before_part_s = self.audio_s
            self.parts.append(bytearray())
        self.audio_s += samples / self._rate_hz
        self._uncounted_s += samples / self._rate_hz
        if self.audio_s > self._max_audio_s:
            self.fail(OutOfRange(f"expected at most {self._max_audio_s:g} s of speech in a turn, got more"))
            return None
        return self._resampler

    def has_room(self, samples: int) -> bool:
        """Whether so many samples at the client's rate can be added without too much speech in the turn."""
        return self.audio_s + samples / self._rate_hz <= self._max_audio_s

    def add_text(self, text: str) -> None:
        """Add a text part. Too much text makes the turn fail."""
        self._chars_left -= len(text)
        if self._chars_left < 0:
            self.fail(OutOfRange("the turn's text is longer than the stated limit"))
        elif text:
            self.end_audio()
            self.parts.append(text)
            self._news.set()

    @property
    def _has_text(self) -> bool:
        return any(isinstance(part, str) for part in self.parts)

    def commit(self) -> None:
        """End the input. A turn fails that is empty, or whose only input is silence."""
        self.end_audio()
        if not any(self.parts):
            self.fail(InvalidArgument("expected audio or text before the commit, got an empty turn"))
        elif not self._has_text and self._is_silent():
            self.fail(InvalidArgument(f"expected speech, got {self.audio_s:.2f} s of silence"))
        self._news.set()  # first: what waits for it sends the commit, and the first sound waits for that
        self.committed.set()
        self.complete.set()

    def _is_silent(self) -> bool:
        """Whether all of the speech is silence. It is read only as far as it may be, in pieces that grow."""
        recordings = [part for part in self.parts if isinstance(part, bytearray)]
        count = sum(len(recording) for recording in recordings) // sample_bytes(self.encoding)
        size, energy = round(_FIRST_LOOK_S * HEARING_RATE_HZ) * sample_bytes(self.encoding), 0.0
        for recording in recordings:
            start = 0
            while start < len(recording):
                energy += energy_of(pcm_samples(bytes(recording[start : start + size]), self.encoding))
                if not is_silent(energy, count):
                    return False
                start, size = start + size, 2 * size
        return True

    async def requests(self, takes_ends_turn: Callable[[], bool] = never) -> AsyncGenerator[ThinkRequest, None]:
        index = offset = 0
        while True:
            while index < len(self.parts):
                part = self.parts[index]
                if isinstance(part, str):
                    ends_turn = self._ends_with(index) and takes_ends_turn()
                    yield ThinkRequest(text=part, ends_turn=ends_turn)
                    if ends_turn:
                        return
                else:
                    while len(part) - offset >= self._least_piece(index):
                        piece = bytes(part[offset : offset + _PIECE_BYTES])
                        offset += len(piece)
                        ends_turn = offset == len(part) and self._ends_with(index) and takes_ends_turn()
                        yield ThinkRequest(audio=UserAudio(data=piece), ends_turn=ends_turn)
                        if ends_turn:
                            return
                    if index == len(self.parts) - 1 and not self.committed.is_set():
                        break
                    if index + 1 < len(self.parts) and isinstance(self.parts[index + 1], bytearray):
                        yield ThinkRequest(audio=UserAudio(end_of_part=True))
                index, offset = index + 1, 0
            if self.committed.is_set() and self._error is None:
                yield ThinkRequest(commit=Commit())
                return
            await self.wait_for_news()

    def _ends_with(self, index: int) -> bool:
        """Whether this part is the last one of a turn that is committed."""
        return index == len(self.parts) - 1 and self.committed.is_set() and self._error is None

    def _least_piece(self, index: int) -> int:
        """The fewest bytes of a part that are sent at once."""
        is_open = index == len(self.parts) - 1 and self._resampler is not None
        return round(_PIECE_S * HEARING_RATE_HZ) * sample_bytes(self.encoding) if is_open else 1

    def end_audio(self) -> bool:
        """End the audio part under way; later audio makes another part. False if there is none."""
        if self._resampler is None:
            return False
        if len(rest := self._resampler.finish()):
            self._extend_part(encode_pcm(rest, self.encoding))
        self._news.set()
        self._resampler = None
        return True

    def drop_audio(self) -> None:
        """Remove the audio part under way, if there is one, and the error of a part that is too long or broken. A Think
        call that has sent some of it must start again."""
        if self._resampler is not None:
            self._resampler = self._error = None
            self.audio_s = self._before_part_s
            self.parts.pop()

    @property
    def is_audio_open(self) -> bool:
        """Whether an audio part is under way."""
        return self._resampler is not None

    @property
    def open_audio_s(self) -> float:
        """Seconds of the audio part under way."""
        return self.audio_s - self._before_part_s if self._resampler is not None else 0.0

    def split(self) -> UserInput:
        """Move the audio part under way to an input of its own, and return that. A Think call that has sent some of the
        part must start again."""
        assert self._resampler is not None, "an audio part is under way"
        rest = UserInput(self._format, max_audio_s=self._max_audio_s, max_chars=self._max_chars)
        rest.parts.append(self.parts[-1])
        rest._resampler = self._resampler
        rest.audio_s = self.open_audio_s
        rest._error = self._error
        self.drop_audio()
        return rest

    def join(self, rest: UserInput) -> None:
        """Put the audio part that `split` took out at the end, where it goes on."""
        self._before_part_s = self.audio_s
        self.parts.append(rest.parts[-1])
        self._resampler = rest._resampler
        self.audio_s += rest.audio_s
        self._error = self._error or rest._error

    def _extend_part(self, data: bytes) -> None:
        part = self.parts[-1]
        assert isinstance(part, bytearray), "the last part is audio while its resampler lives"
        part += data
        self._news.set()


class NoInput(TurnInput):
    """The input of a turn in which the user says nothing: the reply follows the system prompt and the history."""

    def __init__(self) -> None:
        super().__init__()
        self.committed.set()
        self.complete.set()

    async def requests(self, takes_ends_turn: Callable[[], bool] = never) -> AsyncGenerator[ThinkRequest, None]:
        yield ThinkRequest(commit=Commit())


class ForcedReply(TurnInput):
    """A reply whose text the client gives, in pieces. It has no input of the user and is committed from the start.

    `speakable` makes the text speakable. None: it is spoken as it is written. With `check`, a sentence outside its
    domain makes the turn fail.
    """

    def __init__(
        self, *, max_chars: int, speakable: SpeakableText | None = None, check: DomainCheck | None = None
    ) -> None:
        super().__init__()
        self._pieces: list[str] = []
        self._chars_left = max_chars
        self._speakable = speakable
        self._check = check
        self._marks = ""
        """What came before the first letter or digit. Alone it cannot be spoken."""
        self.committed.set()

    def add_text(self, text: str, *, end: bool) -> None:
        """Add a piece of the text; `end` marks the last one. Too much text makes the turn fail, and so does a text
        without a letter or a digit at its end."""
        self._chars_left -= len(text)
        if self._chars_left < 0:
            self.fail(OutOfRange("the text to say is longer than the stated limit"))
            return
        if self._speakable is not None:
            text = self._speakable.feed(text) + (self._speakable.end() if end else "")
        if self._check is not None and (outside := self._check.feed(text, end=end)):
            self.fail(InvalidArgument(f"the checkpoint cannot say {quote(outside)}"))
            return
        text, self._marks = self._marks + text, ""
        if not self._pieces and not is_speakable(text):
            self._marks = text
        elif text:
            self._pieces.append(text)
        if end:
            if not self._pieces:
                self.fail(InvalidArgument("expected text to say, got no letter and no digit"))
            self.complete.set()
        self._news.set()

    async def requests(self, takes_ends_turn: Callable[[], bool] = never) -> AsyncGenerator[ThinkRequest, None]:
        yield ThinkRequest(commit=Commit())
        sent = 0
        while True:
            while sent < len(self._pieces):
                sent += 1
                yield ThinkRequest(given_text=self._pieces[sent - 1])
            if self.complete.is_set() and self._error is None:
                return
            await self.wait_for_news()
