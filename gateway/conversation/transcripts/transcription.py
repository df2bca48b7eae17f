"""Transcripts of the user's speech: a further pass of the reasoner over a turn's speech, of low priority.

Replies go first: the reasoner computes such a pass only when no reply has work for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from chroma.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioEncoding, AudioFormat
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.audio.resample import energy_of, is_silent
from gateway.conversation.output.event_queue import EventQueue
from gateway.conversation.output.events import TranscriptDelta, UserTranscript
from gateway.conversation.transcripts.early_transcript import EarlyTranscript
from gateway.pipeline.deltas import TextDelta
from gateway.pipeline.requests import TurnPlan
from gateway.pipeline.turn import Emit, Turn
from gateway.pipeline.turn_input import UserInput
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord
from gateway.tasks import cancel
from services.common.errors import ChromaError, FailedPrecondition, NotFound, ResourceExhausted
from services.common.wire.audio import FRAME_RATE_HZ, HEARING_RATE_HZ
from services.common.wire.pcm import decode_pcm, sample_count

_INSTRUCTIONS = (
    "You write down speech. Answer with the exact words that the user speaks, in the language they are spoken in, "
    "and with nothing else."
)


_OFF = "this server does not transcribe: CHROMA_TRANSCRIBE is off"
_TRIES = 5
_RETRY_S = 1.0
"""Seconds before a transcript is tried again, unless the reasoner says how long to wait."""


class Transcriber:
    """Transcribes the turns of one conversation, one after the other, and puts the transcripts into its events. The
    transcript of silence is empty, as over HTTP."""

    def __init__(self, upstreams: UpstreamPool, settings: GatewaySettings, events: EventQueue) -> None:
        self._upstreams = upstreams
        self._settings = settings
        self._events = events
        self._last: asyncio.Task[None] | None = None

    def add_recording(
        self, turn_id: str, recording_id: str, speech: bytes, encoding: AudioEncoding.ValueType, early: EarlyTranscript
    ) -> None:
        """Transcribe a recording of a turn, PCM at 16 kHz, after those before it. The text comes in pieces beyond
        `early`, then as a whole."""
        recording = turn_id, recording_id, speech, encoding, early
        self._last = asyncio.create_task(self._transcribe_recording(*recording, before=self._last))

    async def write_early(self, pass_id: str, speech: bytes, encoding: AudioEncoding.ValueType) -> str:
        """Return the text of a recording under way. Empty when the pass failed: another one will come."""
        try:
            turn = await write_down(speech, encoding, pass_id, self._upstreams, self._settings, _ignore)
        except ChromaError:
            return ""
        return _text_of(turn)

    def add(self, record: TurnRecord) -> None:
        """Transcribe a turn, after the turns before it."""
        self._last = asyncio.create_task(self._transcribe(record, self._last))

    async def finish(self) -> None:
        """Wait until all transcripts are in the queue."""
        if self._last is not None:
            await asyncio.wait([self._last])

    async def close(self) -> None:
        """Stop transcribing."""
        if self._last is not None:
            await cancel(self._last)

    async def _transcribe_recording(
        self,
        turn_id: str,
        recording_id: str,
        speech: bytes,
        encoding: AudioEncoding.ValueType,
        early: EarlyTranscript,
        *,
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None:
            await before
        audio_s = sample_count(speech, encoding) / HEARING_RATE_HZ
        transcript = UserTranscript(turn_id, recording_id=recording_id, audio_s=audio_s)

        text = ""

        async def emit(piece: object) -> None:
            nonlocal text
            assert isinstance(piece, TextDelta), "a transcript is text"
            told, text = early.rest(text), (text + piece.text).lstrip()
            if new := early.rest(text)[len(told) :]:
                await self._events.put(TranscriptDelta(recording_id, new))

        try:
            if not self._settings.transcribe:
                raise FailedPrecondition(_OFF)
            if not is_silent_speech(speech, encoding):
                pass_id = f"{recording_id}-transcript"
                turn = await _when_there_is_room(speech, encoding, pass_id, self._upstreams, self._settings, emit)
                transcript = replace(transcript, text=_text_of(turn))
        except ChromaError as error:
            transcript = replace(transcript, error=error)
        await self._events.put(transcript)

    async def _transcribe(self, record: TurnRecord, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await self._events.put(await transcribe(record, self._upstreams, self._settings))


async def transcribe(record: TurnRecord, upstreams: UpstreamPool, settings: GatewaySettings) -> UserTranscript:
    """The transcript of a turn; that of silence is empty. It holds the error of a pass that failed; none is raised."""
    if not settings.transcribe:
        return _failed(record, FailedPrecondition(_OFF))
    if not record.audio() or record.encoding == AUDIO_ENCODING_UNSPECIFIED:
        return _failed(record, NotFound("the turn has no speech"))
    if is_silent_speech(record.audio(), record.encoding):
        return UserTranscript(record.turn_id)
    try:
        pass_id = f"{record.turn_id}-transcript"
        turn = await _when_there_is_room(record.audio(), record.encoding, pass_id, upstreams, settings, _ignore)
    except ChromaError as error:
        return _failed(record, error)
    return UserTranscript(record.turn_id, _text_of(turn))


def is_silent_speech(speech: bytes, encoding: AudioEncoding.ValueType) -> bool:
    """Whether PCM is silence, whose transcript is empty without a pass of the reasoner."""
    samples = decode_pcm(speech, encoding)
    return not len(samples) or is_silent(energy_of(samples), len(samples))


async def _when_there_is_room(
    speech: bytes,
    encoding: AudioEncoding.ValueType,
    turn_id: str,
    upstreams: UpstreamPool,
    settings: GatewaySettings,
    emit: Emit,
) -> Turn:
    """Write speech down. While the reasoner has no room for a further transcript, try again."""
    for _ in range(_TRIES):
        try:
            return await write_down(speech, encoding, turn_id, upstreams, settings, emit)
        except ResourceExhausted as error:
            await asyncio.sleep(error.retry_after_s or _RETRY_S)
    return await write_down(speech, encoding, turn_id, upstreams, settings, emit)


async def write_down(
    speech: bytes,
    encoding: AudioEncoding.ValueType,
    turn_id: str,
    upstreams: UpstreamPool,
    settings: GatewaySettings,
    emit: Emit,
) -> Turn:
    """Write down speech: PCM at 16 kHz. `emit` takes the pieces of the transcript as they come.

    Returns the ended turn of the pass, whose thoughts are the transcript. Raises InvalidArgument for silence,
    OutOfRange for too much speech, or the domain error of the reasoner.
    """
    audio_format = AudioFormat(encoding=encoding, sample_rate_hz=HEARING_RATE_HZ)
    source = UserInput(audio_format, max_audio_s=settings.max_input_s, max_chars=settings.max_input_chars)
    source.add_audio(speech)
    source.commit()
    turn = Turn(turn_id, source, upstreams, emit, limit_s=settings.turn_limit_s, input_idle_s=settings.input_idle_s)
    async with turn.calls.time_limit():
        await turn.run(_plan(settings))
    return turn


def _text_of(turn: Turn) -> str:
    return "".join(thought.text for thought in turn.thoughts).strip()


def _plan(settings: GatewaySettings) -> TurnPlan:
    return TurnPlan(
        session_id="",
        config=SessionConfig(),
        system_prompt=_INSTRUCTIONS,
        history=(),
        voice=None,
        sampling=None,
        max_frames=int(settings.max_reply_s * FRAME_RATE_HZ),
        max_lead_s=None,
        output_encoding=AUDIO_ENCODING_UNSPECIFIED,
        low_priority=True,
    )


def _failed(record: TurnRecord, error: ChromaError) -> UserTranscript:
    return UserTranscript(record.turn_id, error=error)


async def _ignore(event: object) -> None:
    """Drop the pieces: only the whole transcript is sent."""
