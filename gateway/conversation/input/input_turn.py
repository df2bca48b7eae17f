"""The input turn of a conversation: the turn that takes the user's input before its commit."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chroma.v1.audio_pb2 import AudioFormat
from gateway.conversation.input.input_audio import InputAudioBuffer
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.event_queue import EventQueue
from gateway.conversation.output.events import TranscriptDelta
from gateway.conversation.transcripts.early_transcript import EarlyTranscript
from gateway.conversation.transcripts.transcription import Transcriber
from gateway.conversation.turns.active_turns import ActiveTurns, LiveTurn
from gateway.conversation.turns.turn_report import record_of
from gateway.pipeline.turn_input import TurnInput, UserInput
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord
from gateway.tasks import cancel
from services.common.errors import InvalidArgument
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import Samples, check_whole, sample_count

_EARLY_S = 0.5
"""Seconds between two looks at the speech under way."""


@dataclass(frozen=True)
class Recording:
    """A piece of the user's audio that has ended, as a part of its turn."""

    turn_id: str
    recording_id: str


class InputTurn:
    """Adds input to the input turn, and begins it with the first input.

    The input is a list of parts, texts and recordings. The last part may be audio under way, which still grows: with
    turn detection, speech; without it, audio that the client has not committed.
    """

    def __init__(
        self,
        turns: ActiveTurns,
        events: EventQueue,
        audio: InputAudioBuffer,
        transcriber: Transcriber,
        limits: GatewaySettings,
    ) -> None:
        self.options = ConversationOptions()
        """The options of the conversation."""
        self.uncounted_s = 0.0
        """Seconds of recordings that the client put into the history, and that no turn has counted."""
        self._turns = turns
        self._events = events
        self._audio = audio
        self._transcriber = transcriber
        self._early = EarlyTranscript()
        """The transcript of the recording under way."""
        self._recordings = 0
        """Recordings of the conversation so far, which gives each an id."""
        self._limits = limits

    @property
    def has_begun(self) -> bool:
        """Whether there is an input turn."""
        return self._turns.input_turn is not None

    @property
    def has_parts(self) -> bool:
        """Whether the input turn has text or audio, be it under way."""
        return self.has_begun and bool(self.source().parts)

    @property
    def has_whole_parts(self) -> bool:
        """Whether the input turn has text or audio that is not under way."""
        return self.has_begun and len(self.source().parts) > int(self.source().is_audio_open)

    @property
    def open_audio_s(self) -> float:
        """Seconds of the audio under way."""
        return self.source().open_audio_s if self.has_begun else 0.0

    @property
    def turn_id(self) -> str:
        """The id of the input turn, which has begun."""
        return self._live.turn.turn_id

    def check_has_audio(self) -> AudioFormat:
        """Return the format of the client's audio. Raises InvalidArgument when the conversation has none."""
        if self.options.input_format is None:
            raise InvalidArgument("expected no audio: `open` gave no `input_format`")
        return self.options.input_format

    def source(self) -> UserInput:
        """Return the input turn's input. The first call begins the turn."""
        self._events.touch()
        if self._turns.input_turn is None:
            limits = self._limits
            self.begin(
                UserInput(self.options.input_format, max_audio_s=limits.max_input_s, max_chars=limits.max_input_chars)
            )
        source = self._live.turn.source
        assert isinstance(source, UserInput), "an input turn takes the user's input"
        return source

    def begin(self, source: UserInput) -> None:
        """Begin an input turn with this input."""
        self._turns.input_turn = self._turns.begin(new_turn_id(), source, self.options)

    def add_text(self, text: str) -> str:
        """Add a text part. Returns the turn's id."""
        self.source().add_text(text)
        return self.turn_id

    def add_samples(self, samples: Samples) -> None:
        """Add samples [S] to the audio under way."""
        if len(samples):
            self.source().add_samples(samples)

    async def add_message(self, parts: Sequence[str | bytes]) -> str:
        """Add a whole message of the user: texts, and recordings in the client's format. Turn detection ignores it, and
        audio under way stays the last part. Returns the turn's id. Raises InvalidArgument for a recording when the
        conversation has no audio, and for an incomplete sample at its end."""
        for part in parts:
            if isinstance(part, bytes):
                check_whole(part, self.check_has_audio().encoding)
        source = self.source()
        rest = source.split() if source.is_audio_open else None
        for part in parts:
            if isinstance(part, str):
                source.add_text(part)
            else:
                source.add_audio(part)
                source.end_audio()
        if rest is not None:
            source.join(rest)
            await self._begin_again()
        return self.turn_id

    def end_audio(self) -> Recording | None:
        """End the audio under way; later audio is another part of the same turn. Returns the recording that it becomes,
        None if there is none."""
        if not self.has_begun:
            return None
        self.add_samples(self._audio.cut())
        return self.end_speech()

    def end_speech(self) -> Recording | None:
        """Like `end_audio`, when turn detection holds no more of the speech."""
        source = self.source()
        if not source.end_audio():
            return None
        recording, early = Recording(self.turn_id, self._recording_id), self._early
        self._recordings += 1
        self._early = EarlyTranscript()
        if self.options.transcribe_recordings:
            speech = _bytes(source.parts[-1])
            self._transcriber.add_recording(self.turn_id, recording.recording_id, speech, source.encoding, early)
        if not self.options.replies:
            self._turns.release_input()
        return recording

    async def transcribe_speech(self) -> None:
        """Transcribe speech while it goes on, where turn detection finds it and transcripts are wanted.

        Runs until it is cancelled, unless this gateway transcribes nothing.
        """
        while self._limits.transcribe:
            await asyncio.sleep(_EARLY_S)
            if not self._audio.detects_turns or not self.options.transcribe_recordings:
                continue
            live, early = self._turns.input_turn, self._early
            source = live.turn.source if live is not None else None
            if not isinstance(source, UserInput) or not source.is_audio_open:
                continue
            speech = _bytes(source.parts[-1])
            audio_s = sample_count(speech, source.encoding) / HEARING_RATE_HZ
            if not early.is_due(audio_s):
                continue
            recording_id = self._recording_id
            pass_id = f"{recording_id}-transcript-{round(audio_s * 1000)}"
            text = await self._transcriber.write_early(pass_id, speech, source.encoding)
            if early is self._early and (words := early.take(text, audio_s)):  # else the recording has ended meanwhile
                await self._events.put(TranscriptDelta(recording_id, words, is_early=True))

    async def drop_audio(self) -> None:
        """Drop the audio under way."""
        self._early = EarlyTranscript()
        self._audio.cut()
        if not self.has_begun:
            return
        source = self.source()
        source.drop_audio()
        if source.parts:
            await self._begin_again()
        else:
            await self.drop()

    async def drop(self) -> None:
        """Drop the input turn."""
        self._audio.cut()
        await self._turns.drop_input()

    def copy(self) -> TurnRecord:
        """Return the input so far, without audio under way, as a turn of the past."""
        record = record_of(self._live.turn, None)
        return replace(record, user=record.user[:-1]) if self.source().is_audio_open else record

    async def take(self) -> TurnRecord:
        """Make a turn of the past of the input so far. Audio under way goes on in an input turn of its own.

        The input has whole parts. Raises the error of the input.
        """
        source = self.source()
        source.check()
        rest = source.split() if source.is_audio_open else None
        record = record_of(self._live.turn, None)
        await self._turns.drop_input()
        if rest is not None:
            self.begin(rest)
        return record

    def count_earlier(self, source: TurnInput) -> None:
        """Count the recordings that were put into the history with this input."""
        source.count_s(self.uncounted_s)
        self.uncounted_s = 0.0

    async def _begin_again(self) -> None:
        """Give the reasoner the input from the beginning: what it got is not the input any more."""
        live = self._live
        await cancel(live.task)
        self._turns.input_turn = self._turns.begin(live.turn.turn_id, self.source(), self.options)

    @property
    def _recording_id(self) -> str:
        """The id of the recording under way, or of the next one."""
        return f"recording-{self._recordings + 1}"

    @property
    def _live(self) -> LiveTurn:
        assert self._turns.input_turn is not None, "an input turn has begun"
        return self._turns.input_turn


def _bytes(part: str | bytearray) -> bytes:
    assert isinstance(part, bytearray), "the part is a recording"
    return bytes(part)


def new_turn_id() -> str:
    """Return a new id for a turn."""
    return f"turn-{secrets.token_hex(8)}"
