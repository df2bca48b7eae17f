"""/v1/chat/completions: takes a conversation and returns the next reply, spoken or written, whole or streamed."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AudioFormat
from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.reasoner_pb2 import END_REASON_LIMIT, END_REASON_POSITIONS
from chroma.v1.speech_gen_pb2 import Sampling
from gateway.api.auth import caller
from gateway.api.catalog import MODEL, choose_voice
from gateway.api.errors import BadParameter, error_body
from gateway.api.openai.chat_request import (
    AudioPart,
    ChatMessage,
    ChatRequest,
    InputAudioPart,
    TextPart,
    decode_recording,
)
from gateway.api.openai.streaming import server_sent_event, streaming_response
from gateway.audio.read import read_recording
from gateway.audio.write import SoundFileWriter, whole_file
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.events import Event, Outcome, TurnDone
from gateway.conversation.one_shot import one_shot
from gateway.conversation.options import ConversationOptions
from gateway.pipeline.deltas import AudioDelta, TextDelta
from gateway.pipeline.enrolment import ephemeral_voice
from gateway.store.replies import Replies
from services.common.errors import ChromaError
from services.common.wire.audio import FRAME_S, HEARING_RATE_HZ
from services.common.wire.pcm import encode_pcm

_INPUT_FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=HEARING_RATE_HZ)


async def create_chat_completion(request: Request) -> Response:
    """POST: answer a conversation."""
    backend, tenant = caller(request)
    wanted = ChatRequest.model_validate_json(await request.body())
    if (wanted.prompt_text is None) != (wanted.prompt_audio is None):
        raise BadParameter("prompt_text", "expected `prompt_text` and `prompt_audio` together")
    replies: Replies = request.app.state.replies
    inputs = await _inputs(wanted.messages, backend, tenant, replies)
    config = await _config(wanted, backend, tenant)
    voice = None
    if wanted.prompt_audio is not None and wanted.spoken:
        file = decode_recording(wanted.prompt_audio, "prompt_audio")
        voice = await ephemeral_voice(backend.upstreams, file, wanted.prompt_text or "")

    async def talk(conversation: Conversation) -> None:
        for role, part in inputs:
            if role == "assistant":
                await conversation.inject_reply(str(part))
            elif isinstance(part, str):
                conversation.add_text(part)
            else:
                await conversation.append_audio(part)
                conversation.end_audio()
        await conversation.commit()

    options = ConversationOptions(input_format=_INPUT_FORMAT, max_lead_s=0.0, text_only=not wanted.spoken)
    events = one_shot(backend, tenant, config, options, talk, voice)
    completion = _Completion(wanted)
    if wanted.stream:
        return await streaming_response(completion.chunks(events, replies, tenant), "text/event-stream")
    return JSONResponse(await completion.whole(events, replies, tenant))


async def _inputs(
    messages: list[ChatMessage], backend: Backend, tenant: str, replies: Replies
) -> list[tuple[str, str | bytes]]:
    """Return the messages of the user and the assistant as (role, content), in order.

    Content is text, or the bytes of float32 samples at 16 kHz. System messages are left out: `_config` takes them.

    Raises BadParameter for a message without content, and unless the last message is the user's.
    """
    inputs: list[tuple[str, str | bytes]] = []
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        if message.role in ("system", "developer"):
            continue
        if message.role == "assistant" and message.audio is not None:
            inputs.append(("assistant", await replies.text(tenant, message.audio.id)))
            continue
        parts = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        if not parts:
            raise BadParameter(f"{where}.content", f"{where}: expected content, got none")
        if message.role == "assistant":
            texts = [part.text for part in parts if isinstance(part, TextPart)]
            if len(texts) < len(parts):
                raise BadParameter(f"{where}.content", f"{where}: expected text of the assistant, or its `audio.id`")
            inputs.append(("assistant", "".join(texts)))
            continue
        for number, part in enumerate(parts):
            inputs.append(("user", await _user_part(part, f"{where}.content.{number}", backend)))
    if not inputs or inputs[-1][0] != "user":
        raise BadParameter("messages", "expected the user's message at the end")
    return inputs


async def _user_part(part: TextPart | InputAudioPart | AudioPart, where: str, backend: Backend) -> str | bytes:
    if isinstance(part, TextPart):
        return part.text
    data = part.audio if isinstance(part, AudioPart) else part.input_audio.data
    file = decode_recording(data, where)
    try:
        samples = await read_recording(file, rate_hz=HEARING_RATE_HZ, min_s=0.0, max_s=backend.settings.max_input_s)
    except ChromaError as error:
        raise BadParameter(where, f"{where}: {error.message}") from None
    return encode_pcm(samples, AUDIO_ENCODING_PCM_F32LE)


async def _config(wanted: ChatRequest, backend: Backend, tenant: str) -> SessionConfig:
    config = SessionConfig()
    if wanted.spoken and wanted.prompt_audio is None:
        config.voice_id = await choose_voice(backend, tenant, wanted.voice)
    instructions = [_text(message) for message in wanted.messages if message.role in ("system", "developer")]
    if instructions:
        config.system_prompt = "\n\n".join(instructions)
    if wanted.temperature == 0:
        config.sampling.greedy = True
    else:
        sampling = Sampling(temperature=wanted.temperature, top_p=wanted.top_p, top_k=wanted.top_k, seed=wanted.seed)
        if sampling.ListFields():
            config.sampling.CopyFrom(sampling)
    frames = wanted.max_completion_tokens or wanted.max_tokens
    if frames is not None:
        config.max_reply_s = frames * FRAME_S
    return config


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text for part in message.content or () if isinstance(part, TextPart))


class _Completion:
    """One chat completion, built from the events of its turn."""

    def __init__(self, wanted: ChatRequest) -> None:
        self._wanted = wanted
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._audio_id = f"audio_{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._texts: list[str] = []
        self._pcm = bytearray()

    async def whole(self, events: AsyncGenerator[Event, None], replies: Replies, tenant: str) -> dict[str, Any]:
        """Return the completion as one object."""
        done = TurnDone("", Outcome.FAILED)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TextDelta):
                    self._texts.append(event.text)
                elif isinstance(event, AudioDelta):
                    self._pcm += event.data
                elif isinstance(event, TurnDone):
                    done = event
        text = "".join(self._texts)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        file = ""
        if self._wanted.spoken:
            file = base64.b64encode(
                await asyncio.to_thread(whole_file, self._wanted.file_format, bytes(self._pcm))
            ).decode()
        if self._wanted.spoken and not self._wanted.is_flashlabs_form:
            expires_at = await replies.keep(tenant, self._audio_id, text)
            message["content"] = None
            message["audio"] = {"id": self._audio_id, "data": file, "transcript": text, "expires_at": expires_at}
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(done), "logprobs": None}
        completion = {**self._head("chat.completion"), "choices": [choice], "usage": _usage(done)}
        if self._wanted.spoken and self._wanted.is_flashlabs_form:
            completion["audio"] = file
        return completion

    async def chunks(self, events: AsyncGenerator[Event, None], replies: Replies, tenant: str) -> AsyncIterator[bytes]:
        """Yield the completion as server-sent events: text and audio as they are made."""
        writer = SoundFileWriter(self._wanted.file_format if self._wanted.spoken else "pcm")
        started = False
        async with aclosing(events):
            try:
                async for event in events:
                    if not started:
                        yield self._chunk({"role": "assistant", "content": "", "refusal": None})
                        started = True
                    if isinstance(event, TextDelta):
                        self._texts.append(event.text)
                        yield self._chunk(self._text_delta(event.text))
                    elif isinstance(event, AudioDelta):
                        if piece := writer.push(event.data):
                            yield self._chunk(self._audio_delta(piece))
                    elif isinstance(event, TurnDone):
                        if piece := writer.finish():
                            yield self._chunk(self._audio_delta(piece))
                        if self._wanted.spoken:
                            expires_at = await replies.keep(tenant, self._audio_id, "".join(self._texts))
                            yield self._chunk({"audio": {"id": self._audio_id, "expires_at": expires_at}})
                        yield self._chunk({}, _finish_reason(event))
                        if self._wanted.stream_options and self._wanted.stream_options.include_usage:
                            head = self._head("chat.completion.chunk")
                            yield server_sent_event({**head, "choices": [], "usage": _usage(event)})
            except ChromaError as error:
                if not started:
                    raise
                yield server_sent_event({"error": error_body(error)})
        yield b"data: [DONE]\n\n"

    def _text_delta(self, text: str) -> dict[str, Any]:
        if self._wanted.spoken:
            return {"audio": {"id": self._audio_id, "transcript": text}}
        return {"content": text}

    def _audio_delta(self, data: bytes) -> dict[str, Any]:
        return {"audio": {"id": self._audio_id, "data": base64.b64encode(data).decode()}}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return server_sent_event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._wanted.model or MODEL}


def _finish_reason(done: TurnDone) -> str:
    return "length" if done.speech_end in (END_REASON_LIMIT, END_REASON_POSITIONS) else "stop"


def _usage(done: TurnDone) -> dict[str, Any]:
    return {
        "prompt_tokens": done.input_tokens,
        "completion_tokens": done.output_tokens,
        "total_tokens": done.input_tokens + done.output_tokens,
        "prompt_tokens_details": {"cached_tokens": done.cached_tokens},
        "input_audio_seconds": round(done.input_audio_s, 3),
        "output_audio_seconds": round(done.output_audio_s, 3),
    }
