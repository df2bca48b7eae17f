"""Transcripts of the user's speech: a further pass of the reasoner over a turn's speech."""

from __future__ import annotations

import asyncio

from chroma.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioFormat
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.event_queue import EventQueue
from gateway.conversation.events import UserTranscript
from gateway.pipeline.requests import TurnPlan
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import UserInput
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord
from gateway.tasks import cancel
from services.common.errors import ChromaError, FailedPrecondition, NotFound
from services.common.wire.audio import FRAME_RATE_HZ, HEARING_RATE_HZ

_INSTRUCTIONS = (
    "You write down speech. Answer with the exact words that the user speaks, in the language they are spoken in, "
    "and with nothing else."
)


class Transcriber:
    """Transcribes the turns of one conversation, one after the other, and puts the transcripts into its events."""

    def __init__(self, upstreams: UpstreamPool, settings: GatewaySettings, events: EventQueue) -> None:
        self._upstreams = upstreams
        self._settings = settings
        self._events = events
        self._last: asyncio.Task[None] | None = None

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

    async def _transcribe(self, record: TurnRecord, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await self._events.put(await transcribe(record, self._upstreams, self._settings))


async def transcribe(record: TurnRecord, upstreams: UpstreamPool, settings: GatewaySettings) -> UserTranscript:
    """The transcript of a turn. It holds the error of a pass that failed; none is raised."""
    if not settings.transcribe:
        return _failed(record, FailedPrecondition("this server does not transcribe: CHROMA_TRANSCRIBE is off"))
    if not record.audio() or record.encoding == AUDIO_ENCODING_UNSPECIFIED:
        return _failed(record, NotFound("the turn has no speech"))
    speech = AudioFormat(encoding=record.encoding, sample_rate_hz=HEARING_RATE_HZ)
    source = UserInput(speech, max_audio_s=settings.max_input_s, max_chars=settings.max_input_chars)
    source.add_audio(record.audio())
    source.commit()
    turn = Turn(f"{record.turn_id}-transcript", source, upstreams, _ignore, limit_s=settings.turn_limit_s)
    try:
        async with turn.calls.time_limit():
            await turn.run(_plan(settings))
    except ChromaError as error:
        return _failed(record, error)
    return UserTranscript(record.turn_id, "".join(thought.text for thought in turn.thoughts).strip())


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
    )


def _failed(record: TurnRecord, error: ChromaError) -> UserTranscript:
    return UserTranscript(record.turn_id, error=error)


async def _ignore(event: object) -> None:
    """Drop the pieces: only the whole transcript is sent."""
