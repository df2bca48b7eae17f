"""/v1/audio/transcriptions: the reasoner's own transcript of a recording, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.access.caller import Caller
from gateway.api.auth import http_caller
from gateway.api.errors import BadParameter, error_body
from gateway.api.field_errors import fit
from gateway.api.fields import Name
from gateway.api.openai.audio.forms import read_form
from gateway.api.openai.ignored import ignored_header
from gateway.api.openai.streaming import server_sent_event, streaming_response
from gateway.audio.read import MAX_FILE_S, DecodingBudget, Silence, read_recording
from gateway.audio.trim import KEPT_SILENCE_S
from gateway.conversation.backend import Backend
from gateway.conversation.transcripts.recording_transcript import Passage, TakeText, counted, passages_of, transcript_of
from gateway.tasks import cancel
from services.common.errors import ChromaError, PermissionDenied
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import Samples

_UNKNOWN_LANGUAGE = "unknown"
_NO_EFFECT = ("language", "languages", "prompt", "keywords", "temperature", "chunking_strategy")


class TranscriptionRequest(BaseModel):
    """A recording to write down, and the form of its transcript."""

    model_config = ConfigDict(extra="forbid")
    model: Name = Field(default="", description="Any name. There is one model.")
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] = Field(
        default="json",
        description="`srt` and `vtt` have a cue for each stretch of speech that turn detection finds. "
        "`verbose_json` has the length, and neither segments nor words. `diarized_json` is refused.",
    )
    stream: bool = Field(default=False, description="Server-sent events with the text while it is written down.")
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default_factory=list, description="Refused: see `response_format`."
    )
    include: list[str] = Field(default_factory=list, description="`logprobs` is refused.")
    language: Annotated[str, Field(max_length=64)] = Field(
        default="", description="Without effect: the reasoner finds the language. `verbose_json` repeats it."
    )
    languages: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list, description="Without effect.")
    prompt: Annotated[str, Field(max_length=32_000)] = Field(default="", description="Without effect.")
    keywords: list[Annotated[str, Field(max_length=256)]] = Field(default_factory=list, description="Without effect.")
    temperature: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=0.0, description="Without effect: each word is the most probable one."
    )
    chunking_strategy: Annotated[str, Field(max_length=1_000)] = Field(default="", description="Without effect.")

    def check(self) -> None:
        """Raise BadParameter for what there are no true values for."""
        if self.response_format == "diarized_json":
            raise BadParameter("response_format", "diarized_json: the reasoner does not tell speakers apart")
        if self.timestamp_granularities:
            message = (
                "timestamp_granularities: the reasoner tells no times of words, and no probabilities, which segments "
                "have: ask for the response_format srt or vtt, which has the times of each stretch of speech"
            )
            raise BadParameter("timestamp_granularities", message)
        if "logprobs" in self.include:
            raise BadParameter("include", "include: the reasoner tells no log probabilities")
        if self.stream and self.response_format not in ("json", "text"):
            expected = f"json or text with `stream`, got {self.response_format}"
            raise BadParameter("response_format", f"response_format: expected {expected}")


async def create_transcription(request: Request) -> Response:
    """POST: write a recording down."""
    backend, caller = http_caller(request)
    if not backend.settings.transcribe:
        raise PermissionDenied("this server does not transcribe: its operator may allow it with CHROMA_TRANSCRIBE")
    lists = [name for name, field in TranscriptionRequest.model_fields.items() if field.default_factory is list]
    texts_of = [name for name in TranscriptionRequest.model_fields if name not in lists]
    file, texts = await read_form(request, file_field="file", fields=texts_of, lists=lists)
    wanted = fit(texts, TranscriptionRequest)
    wanted.check()
    headers = ignored_header(name for name in _NO_EFFECT if getattr(wanted, name))
    if wanted.stream:
        events = _events(file, backend, caller)
        return await streaming_response(events, "text/event-stream", headers)
    async with backend.seat(caller):
        sound = await _decoded(file, backend, whole=wanted.response_format in ("srt", "vtt"))
        async with counted(backend, caller, sound.duration_s) as turn_id:
            if wanted.response_format in ("srt", "vtt"):
                passages = await passages_of(sound.samples, turn_id, backend, caller)
                return PlainTextResponse(_captions(passages, wanted.response_format), headers=headers)
            passage = await _transcript(sound, turn_id, backend, caller, _ignore)
    if wanted.response_format == "text":
        return PlainTextResponse(f"{passage.text}\n", headers=headers)
    usage = {"type": "duration", "seconds": round(sound.duration_s, 3)}
    answer: dict[str, Any] = {"text": passage.text, "usage": usage}
    if wanted.response_format == "verbose_json":
        language = wanted.language or _UNKNOWN_LANGUAGE
        answer |= {"task": "transcribe", "language": language, "duration": round(sound.duration_s, 3)}
    return JSONResponse(answer, headers=headers)


@dataclass(frozen=True)
class _Sound:
    """What a file holds."""

    samples: Samples
    """At 16 kHz. There are none when the file is silent."""
    duration_s: float
    """Of the whole file."""


async def _decoded(file: bytes, backend: Backend, *, whole: bool = False) -> _Sound:
    """Decode a file. `whole`: silence at its ends stays, so that times in it are those of the file.

    Raises BadParameter.
    """
    max_s, budget = backend.settings.max_input_s, DecodingBudget()
    kept_silence_s = max_s if whole else KEPT_SILENCE_S
    try:
        samples = await read_recording(
            file, rate_hz=HEARING_RATE_HZ, min_s=0.0, max_s=max_s, kept_silence_s=kept_silence_s, budget=budget
        )
    except Silence:
        samples = np.zeros(0, dtype=np.float32)
    except ChromaError as error:
        raise BadParameter("file", f"file: {error.message}") from None
    return _Sound(samples, MAX_FILE_S - budget.left_s)


async def _transcript(sound: _Sound, turn_id: str, backend: Backend, caller: Caller, take_text: TakeText) -> Passage:
    """The transcript of a file. That of silence is empty."""
    if not len(sound.samples):
        return Passage(0.0, sound.duration_s, "")
    return await transcript_of(sound.samples, turn_id, backend, caller, take_text)


async def _events(file: bytes, backend: Backend, caller: Caller) -> AsyncIterator[bytes]:
    """Yield server-sent events with the pieces of the transcript. A late error becomes an event of its own."""
    pieces: asyncio.Queue[str] = asyncio.Queue(1)
    async with backend.seat(caller):
        sound = await _decoded(file, backend)
        async with counted(backend, caller, sound.duration_s) as turn_id:
            writing = asyncio.create_task(_transcript(sound, turn_id, backend, caller, pieces.put))
            started = False
            try:
                async with aclosing(_until_done(pieces, writing)) as texts:
                    async for text in texts:
                        started = True
                        yield server_sent_event({"type": "transcript.text.delta", "delta": text})
                passage = await writing
                yield server_sent_event(
                    {"type": "transcript.text.done", "text": passage.text, "usage": _token_usage(passage)}
                )
            except ChromaError as error:
                if not started:
                    raise
                yield server_sent_event({"type": "error", "error": error_body(error)})
            finally:
                await cancel(writing)


async def _until_done(pieces: asyncio.Queue[str], writing: asyncio.Task[Passage]) -> AsyncGenerator[str, None]:
    """Yield the pieces up to the end of the task that puts them."""
    while not (writing.done() and pieces.empty()):
        piece = asyncio.ensure_future(pieces.get())
        await asyncio.wait((piece, writing), return_when=asyncio.FIRST_COMPLETED)
        if piece.done():
            yield piece.result()
        else:
            piece.cancel()


def _token_usage(passage: Passage) -> dict[str, Any]:
    """The usage of a streamed transcript: its event has tokens where the whole transcript has a duration."""
    total = passage.input_tokens + passage.output_tokens
    tokens = {"input_tokens": passage.input_tokens, "output_tokens": passage.output_tokens}
    return {"type": "tokens", **tokens, "total_tokens": total}


def _captions(passages: Sequence[Passage], caption_format: str) -> str:
    """The transcript as captions: a cue for each passage."""
    mark = "," if caption_format == "srt" else "."
    cues = [
        f"{_time(passage.start_s, mark)} --> {_time(passage.end_s, mark)}\n{passage.text}\n" for passage in passages
    ]
    if caption_format == "srt":
        return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, start=1))
    return "\n".join(("WEBVTT\n", *cues))


def _time(seconds: float, mark: str) -> str:
    """A time of a caption, such as `00:01:02,345`. `mark` stands before the milliseconds."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"


async def _ignore(text: str) -> None:
    """Drop a piece: only the whole transcript is sent."""
