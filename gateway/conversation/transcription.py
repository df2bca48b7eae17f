"""What the user said, as text: a further pass of the reasoner over a turn's speech, asked to write it down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chroma.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioFormat
from chroma.v1.dialogue_pb2 import SessionConfig
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
    """Writes down the turns of one conversation, one after the other."""

    def __init__(
        self, upstreams: UpstreamPool, settings: GatewaySettings, tell: Callable[[UserTranscript], Awaitable[None]]
    ) -> None:
        self._upstreams = upstreams
        self._settings = settings
        self._tell = tell
        self._writing: asyncio.Task[None] | None = None

    def write_down(self, record: TurnRecord) -> None:
        """Tell what the user said in a turn, after the turns before it."""
        self._writing = asyncio.create_task(self._write_down(record, self._writing))

    async def finish(self) -> None:
        """Wait until all is told."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def close(self) -> None:
        """Stop writing."""
        if self._writing is not None:
            await cancel(self._writing)

    async def _write_down(self, record: TurnRecord, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await self._tell(await transcribe(record, self._upstreams, self._settings))


async def transcribe(record: TurnRecord, upstreams: UpstreamPool, settings: GatewaySettings) -> UserTranscript:
    """The words of the user's speech in a turn; the event tells an error, none is raised."""
    if not settings.transcribe:
        return _failed(record, FailedPrecondition("this server does not transcribe: CHROMA_TRANSCRIBE is off"))
    if not record.audio() or record.encoding == AUDIO_ENCODING_UNSPECIFIED:
        return _failed(record, NotFound("the turn has no speech"))
    speech = AudioFormat(encoding=record.encoding, sample_rate_hz=HEARING_RATE_HZ)
    source = UserInput(speech, max_audio_s=settings.max_input_s, max_chars=settings.max_input_chars)
    source.add_audio(record.audio())
    source.commit()
    turn = Turn(f"{record.turn_id}-transcript", source, upstreams, _nowhere, limit_s=settings.turn_limit_s)
    try:
        async with turn.time_limit():
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


async def _nowhere(event: object) -> None:
    """Nobody is told before the end."""
