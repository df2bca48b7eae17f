"""/v1/audio/speech: speaks a text in an enrolled voice and streams the audio while it is made."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.speech_gen_pb2 import Sampling
from gateway.api.auth import caller
from gateway.api.catalog import choose_voice
from gateway.api.errors import BadParameter, error_body
from gateway.api.openai.streaming import server_sent_event, streaming_response
from gateway.audio.write import CONTENT_TYPES, FileFormat, SoundFileWriter
from gateway.conversation.conversation import Conversation
from gateway.conversation.events import Event, TurnDone
from gateway.conversation.one_shot import one_shot
from gateway.conversation.options import ConversationOptions
from gateway.pipeline.deltas import AudioDelta
from services.common.errors import ChromaError
from services.common.sampling import Seed, Temperature


class VoiceById(BaseModel):
    """A voice, by its id."""

    model_config = ConfigDict(extra="forbid")
    id: str


class SpeechRequest(BaseModel):
    """A text to speak."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(default="", description="Any name. There is one model.")
    input: Annotated[
        str, Field(min_length=1, description="The text to speak, of at most `CHROMA_MAX_INPUT_CHARS` characters.")
    ]
    voice: str | VoiceById = Field(
        default="",
        description="Id of an enrolled voice. Empty, or an OpenAI voice that is not enrolled: the default voice.",
    )
    response_format: FileFormat = Field(
        default="mp3", description="Format of the file. FLAC is sent as a whole at the end; the others are streamed."
    )
    speed: Annotated[float, Field(ge=1, le=1, description="Only 1.")] = 1.0
    stream_format: Literal["audio", "sse"] = Field(
        default="audio",
        description="`audio`: the bare file. `sse`: server-sent events with pieces of the file in base64.",
    )
    temperature: Annotated[Temperature | None, Field(description="How much the speech varies.")] = None
    seed: Annotated[Seed | None, Field(description="The same seed gives the same speech.")] = None


async def create_speech(request: Request) -> Response:
    """POST: speak a text."""
    backend, tenant = caller(request)
    wanted = SpeechRequest.model_validate_json(await request.body())
    max_chars = backend.settings.max_input_chars
    if len(wanted.input) > max_chars:
        raise BadParameter("input", f"input: expected at most {max_chars} characters, got {len(wanted.input)}")
    named = wanted.voice if isinstance(wanted.voice, str) else wanted.voice.id
    voice_id = await choose_voice(backend, tenant, named)
    sampling = Sampling(temperature=wanted.temperature, seed=wanted.seed)
    config = SessionConfig(voice_id=voice_id, sampling=sampling if sampling.ListFields() else None)

    async def speak(conversation: Conversation) -> None:
        await conversation.say(wanted.input, end=True)

    events = one_shot(backend, tenant, config, ConversationOptions(max_lead_s=0.0), speak)
    if wanted.stream_format == "sse":
        return await streaming_response(_as_events(events, wanted.response_format), "text/event-stream")
    return await streaming_response(_as_file(events, wanted.response_format), CONTENT_TYPES[wanted.response_format])


async def _as_file(events: AsyncGenerator[Event, None], file_format: FileFormat) -> AsyncIterator[bytes]:
    """Yield the pieces of the audio file."""
    writer = SoundFileWriter(file_format)
    async with aclosing(events):
        async for event in events:
            if isinstance(event, AudioDelta):
                yield writer.push(event.data)
    yield writer.finish()


async def _as_events(events: AsyncGenerator[Event, None], file_format: FileFormat) -> AsyncIterator[bytes]:
    """Yield server-sent events with the pieces of the audio file. A late error becomes an event of its own."""
    writer = SoundFileWriter(file_format)
    started = False
    async with aclosing(events):
        try:
            async for event in events:
                if isinstance(event, AudioDelta) and (piece := writer.push(event.data)):
                    yield _audio_event(piece)
                    started = True
                elif isinstance(event, TurnDone):
                    if piece := writer.finish():
                        yield _audio_event(piece)
                    tokens = {"input_tokens": event.input_tokens, "output_tokens": event.output_tokens}
                    usage = {**tokens, "total_tokens": event.input_tokens + event.output_tokens}
                    yield server_sent_event({"type": "speech.audio.done", "usage": usage})
        except ChromaError as error:
            if not started:
                raise
            yield server_sent_event({"type": "error", "error": error_body(error)})


def _audio_event(data: bytes) -> bytes:
    return server_sent_event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
