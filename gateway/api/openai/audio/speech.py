"""/v1/audio/speech: speaks a text in an enrolled voice and streams the audio while it is made."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.generation_pb2 import END_REASON_LIMIT, END_REASON_POSITIONS, Sampling
from gateway.api.auth import http_caller
from gateway.api.catalog import choose_voice
from gateway.api.client_json import parse_request
from gateway.api.errors import BadParameter, error_body
from gateway.api.fields import Name
from gateway.api.openai.ignored import ignored_header
from gateway.api.openai.out_of_domain import out_of_domain_header, out_of_domain_member
from gateway.api.openai.streaming import server_sent_event, streaming_response
from gateway.audio.provenance import ContentCredentials
from gateway.audio.write import CONTENT_TYPES, FileFormat, SoundFileWriter
from gateway.conversation.backend import Backend
from gateway.conversation.output.events import Event, TurnDone
from gateway.conversation.spoken_text import is_cut, speak_text, spoken_form
from gateway.pipeline.deltas import AudioDelta
from gateway.text.domain import quote
from gateway.text.speakable import is_speakable
from services.common.errors import ChromaError, OutOfRange
from services.common.sampling import Seed, Temperature


class VoiceById(BaseModel):
    """A voice, by its id."""

    model_config = ConfigDict(extra="forbid")
    id: Name


class SpeechRequest(BaseModel):
    """A text to speak."""

    model_config = ConfigDict(extra="forbid")
    model: Name = Field(default="", description="Any name. There is one model.")
    input: Annotated[
        str, Field(min_length=1, description="The text to speak, of at most `CHROMA_MAX_INPUT_CHARS` characters.")
    ]
    voice: Name | VoiceById = Field(
        default="",
        description="Id of an enrolled voice. Empty, or an OpenAI voice that is not enrolled: the default voice.",
    )
    response_format: FileFormat = Field(
        default="mp3",
        description=(
            "Format of the file. FLAC, and WAV unless `stream_format` is named, come as a whole at the end, with "
            "their length in the header; the others are streamed."
        ),
    )
    speed: Annotated[float | None, Field(ge=0.25, le=4, description="Without effect.")] = None
    instructions: Annotated[str | None, Field(max_length=32_000, description="Without effect.")] = None
    stream_format: Literal["audio", "sse"] | None = Field(
        default=None,
        description=(
            "`audio`: the bare file, also WAV, while it is made. `sse`: server-sent events with pieces of the file in "
            "base64. Unset: the bare file."
        ),
    )
    temperature: Annotated[Temperature | None, Field(description="How much the speech varies.")] = None
    seed: Annotated[Seed | None, Field(description="The same seed gives the same speech.")] = None
    verbatim: bool = Field(
        default=False,
        description="Speak the text as it is written, without making markdown, numbers, dates and addresses speakable.",
    )
    language: Name = Field(
        default="", description="BCP 47 tag of the text's language. Empty: the deployment's, English by default."
    )

    @property
    def ignored(self) -> list[str]:
        """The fields of the request that ask for something and have no effect."""
        asked = {"instructions": bool(self.instructions), "speed": self.speed not in (None, 1)}
        return [name for name, is_asked in asked.items() if is_asked]


async def create_speech(request: Request) -> Response:
    """POST: speak a text."""
    backend, caller = http_caller(request)
    wanted = await parse_request(await request.body(), SpeechRequest)
    max_chars = backend.settings.max_input_chars
    if len(wanted.input) > max_chars:
        raise BadParameter("input", f"input: expected at most {max_chars} characters, got {len(wanted.input)}")
    if not is_speakable(wanted.input):
        raise BadParameter("input", "input: expected a text to speak, got no letter and no digit")
    named = wanted.voice if isinstance(wanted.voice, str) else wanted.voice.id
    voice_id = await choose_voice(backend, caller.tenant, named)
    sampling = Sampling(temperature=wanted.temperature, seed=wanted.seed)
    config = SessionConfig(voice_id=voice_id, sampling=sampling if sampling.ListFields() else None)

    text = wanted.input
    if not wanted.verbatim:
        text = await spoken_form(text, wanted.language or backend.settings.text_language)
        if not is_speakable(text):
            raise BadParameter("input", "input: expected a text to speak, got marks alone, such as a picture's address")
    outside = _check_domain(backend, text)
    events = speak_text(backend, caller, config, text)
    headers = {**ignored_header(wanted.ignored), **out_of_domain_header(outside)}
    if wanted.stream_format == "sse":
        return await streaming_response(_as_events(events, wanted.response_format), "text/event-stream", headers)
    whole = wanted.stream_format is None
    file = as_file(events, wanted.response_format, request.app.state.credentials, whole=whole)
    return await streaming_response(file, CONTENT_TYPES[wanted.response_format], headers)


def _check_domain(backend: Backend, text: str) -> tuple[str, ...]:
    """Return the sentences that the checkpoint cannot say. Raises BadParameter for them where the deployment refuses
    them."""
    domain = backend.upstreams.reasoner.domain()
    outside = domain.outside(text) if domain else ()
    if outside and backend.settings.out_of_domain == "refuse":
        raise BadParameter("input", f"input: the checkpoint cannot say {quote(outside)}", "out_of_domain")
    return outside


async def as_file(
    events: AsyncGenerator[Event, None],
    file_format: FileFormat,
    credentials: ContentCredentials | None,
    *,
    whole: bool = False,
) -> AsyncIterator[bytes]:
    """Yield the pieces of the audio file; of a WAV file the `whole` at the end. A whole file is signed if there are
    credentials.

    Raises OutOfRange, which breaks the response off, when a limit cuts the speech before the end of its text.
    """
    writer = SoundFileWriter(file_format, whole=whole)
    async with aclosing(events):
        async for event in events:
            if isinstance(event, AudioDelta):
                yield writer.push(event.data)
            elif isinstance(event, TurnDone) and is_cut(event):
                raise OutOfRange("the speech reached its limit before the end of the text")
    end = writer.finish()
    if writer.is_whole and credentials is not None:
        end = await asyncio.to_thread(credentials.sign, file_format, end)
    yield end


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
                    yield server_sent_event(
                        {"type": "speech.audio.done", "usage": usage, **_end_of(event)}
                        | out_of_domain_member(event.out_of_domain)
                    )
        except ChromaError as error:
            if not started:
                raise
            yield server_sent_event({"type": "error", "error": error_body(error)})


def _end_of(done: TurnDone) -> dict[str, Any]:
    """How the reply ended, as in a Realtime response: whole, or cut off at a limit."""
    if done.speech_end in (END_REASON_LIMIT, END_REASON_POSITIONS):
        return {"status": "incomplete", "status_details": {"type": "incomplete", "reason": "max_output_tokens"}}
    return {"status": "completed", "status_details": None}


def _audio_event(data: bytes) -> bytes:
    return server_sent_event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
