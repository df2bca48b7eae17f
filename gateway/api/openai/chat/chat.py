"""/v1/chat/completions: takes a conversation and returns the next reply, spoken or written, whole or streamed."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.generation_pb2 import Sampling
from gateway.access.caller import Scope
from gateway.api.auth import http_caller
from gateway.api.catalog import MODEL, choose_voice
from gateway.api.client_json import parse_request
from gateway.api.errors import BadParameter, error_body
from gateway.api.openai.chat.past_turns import INPUT_FORMAT, Recording, Result, Said, talk_from
from gateway.api.openai.chat.request import (
    AudioPart,
    ChatMessage,
    ChatRequest,
    InputAudioPart,
    RefusalPart,
    TextPart,
    decode_recording,
)
from gateway.api.openai.ignored import ignored_header
from gateway.api.openai.out_of_domain import out_of_domain_header, out_of_domain_member
from gateway.api.openai.streaming import server_sent_event, streaming_response
from gateway.api.prompt_size import check_prompt_size
from gateway.api.tokens import Tokens
from gateway.api.tools import tools_of_request
from gateway.audio.provenance import ContentCredentials
from gateway.audio.write import SoundFileWriter, whole_file
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.one_shot import one_shot
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.events import Event, Outcome, TurnDone
from gateway.pipeline.deltas import AudioDelta, TextDelta, ToolCallMade
from gateway.pipeline.enrolment import NewVoice, ephemeral_voice
from gateway.store.records import ToolCall
from gateway.store.replies import Replies
from gateway.store.voices import SpokenVoice
from services.common.errors import ChromaError
from services.common.sampling import MAX_SEED

_MAX_MESSAGES = 1_000
_MAX_PARTS = 1_000


async def create_chat_completion(request: Request) -> Response:
    """POST: answer a conversation."""
    backend, caller = http_caller(request)
    wanted = await parse_request(await request.body(), ChatRequest)
    wanted.check()
    if (wanted.prompt_text is None) != (wanted.prompt_audio is None):
        raise BadParameter("prompt_text", "expected `prompt_text` and `prompt_audio` together")
    if wanted.prompt_audio is not None:
        caller.require(Scope.VOICES)  # it clones a voice, be it for one reply
    if wanted.prompt_audio is not None and not (wanted.prompt_consent or "").strip():
        expected = "`prompt_consent` beside `prompt_audio`: who agreed to the cloning of this voice, and how"
        raise BadParameter("prompt_consent", f"expected {expected}", "missing_required_parameter")
    replies: Replies = request.app.state.replies
    said = await _said(wanted.messages, caller.tenant, replies)
    config = await _config(wanted, backend, caller.tenant)
    if wanted.tools or wanted.tool_choice is not None:
        functions = [tool.function for tool in wanted.tools or ()]
        config.tools.CopyFrom(tools_of_request(functions, wanted.tool_choice, wanted.parallel_tool_calls, backend))
    await check_prompt_size(backend, config, "messages", "tools")

    async def make_voice() -> SpokenVoice:
        backend.audit.require(caller, Scope.VOICES)
        cloned = NewVoice(
            audio_file=await decode_recording(wanted.prompt_audio or "", "prompt_audio"),
            transcript=wanted.prompt_text or "",
            consent=wanted.prompt_consent or "",
            subject=wanted.prompt_consent_subject or "",
        )
        return await ephemeral_voice(backend.voices, backend.upstreams, backend.audit, backend.usage, caller, cloned)

    async def talk(conversation: Conversation) -> None:
        await talk_from(conversation, said, backend.settings)

    options = ConversationOptions(
        input_format=INPUT_FORMAT,
        max_lead_s=0.0,
        text_only=not wanted.spoken,
        stop=wanted.stops,
        max_output_tokens=wanted.max_completion_tokens or wanted.max_tokens,
    )
    is_cloned = wanted.prompt_audio is not None and wanted.spoken
    events = one_shot(backend, caller, config, options, talk, make_voice if is_cloned else None)
    completion = _Completion(wanted, request.app.state.credentials)
    headers = ignored_header(wanted.ignored)
    if wanted.stream:
        chunks = completion.chunks(events, replies, caller.tenant)
        return await streaming_response(chunks, "text/event-stream", headers)
    answer = await completion.whole(events, replies, caller.tenant)
    return JSONResponse(answer, headers={**headers, **out_of_domain_header(answer.get("out_of_domain", ()))})


async def _said(messages: list[ChatMessage], tenant: str, replies: Replies) -> list[Said | Result]:
    """Return what the user, the assistant and the tools said, in order.

    System messages are left out: `_config` takes them. Raises BadParameter for a message without content, for too many
    messages or parts, for the result of a call that no message before it made, and for calls at the end.
    """
    if len(messages) > _MAX_MESSAGES:
        raise BadParameter("messages", f"expected at most {_MAX_MESSAGES} messages, got {len(messages)}")
    if sum(len(message.content) for message in messages if isinstance(message.content, list)) > _MAX_PARTS:
        raise BadParameter(
            "messages", f"expected at most {_MAX_PARTS} content parts in all messages together, got more"
        )
    said: list[Said | Result] = []
    call_ids: set[str] = set()
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        if message.role in ("system", "developer"):
            continue
        if message.role == "tool":
            if message.tool_call_id not in call_ids:
                expected = f"{where}: expected the id of a tool call before it"
                raise BadParameter(f"{where}.tool_call_id", f"{expected}, got {message.tool_call_id!r}")
            said.append(Result(message.tool_call_id or "", _text(message)))
            continue
        calls = [] if message.role != "assistant" else message.tool_calls or []
        if message.role == "assistant" and message.audio is not None:
            words = message.audio.transcript or await replies.text(tenant, message.audio.id)
            said.append(Said("assistant", words))
        elif message.content or not calls:
            said += _parts(message, where)
        said += [Said("assistant", ToolCall(call.id, call.function.name, call.function.arguments)) for call in calls]
        call_ids |= {call.id for call in calls}
    if said and isinstance(said[-1], Said) and isinstance(said[-1].content, ToolCall):
        raise BadParameter("messages", "messages: expected the result of each tool call, got calls at the end")
    return said


def _parts(message: ChatMessage, where: str) -> list[Said]:
    """What the user or the assistant said in one message. Raises BadParameter for a message without content."""
    parts = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
    if not parts:
        raise BadParameter(f"{where}.content", f"{where}: expected content, got none")
    if message.role != "assistant":
        return [Said("user", _user_part(part, f"{where}.content.{number}")) for number, part in enumerate(parts)]
    texts = [
        part.refusal if isinstance(part, RefusalPart) else part.text
        for part in parts
        if isinstance(part, TextPart | RefusalPart)
    ]
    if len(texts) < len(parts):
        raise BadParameter(f"{where}.content", f"{where}: expected text of the assistant, or its `audio.id`")
    return [Said("assistant", "".join(texts))]


def _user_part(part: TextPart | InputAudioPart | AudioPart | RefusalPart, where: str) -> str | Recording:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, RefusalPart):
        raise BadParameter(where, f"{where}: expected text or speech of the user, got a refusal")
    return Recording(part.audio if isinstance(part, AudioPart) else part.input_audio.data, where)


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
        seed = None if wanted.seed is None else wanted.seed & MAX_SEED
        sampling = Sampling(temperature=wanted.temperature, top_p=wanted.top_p, top_k=wanted.top_k, seed=seed)
        if sampling.ListFields():
            config.sampling.CopyFrom(sampling)
    return config


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text for part in message.content or () if isinstance(part, TextPart))


class _Completion:
    """One chat completion, built from the events of its turn."""

    def __init__(self, wanted: ChatRequest, credentials: ContentCredentials | None) -> None:
        self._wanted = wanted
        self._credentials = credentials
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._audio_id = f"audio_{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._texts: list[str] = []
        self._calls: list[ToolCallMade] = []
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
                elif isinstance(event, ToolCallMade):
                    self._calls.append(event)
                elif isinstance(event, TurnDone):
                    done = event
        text = "".join(self._texts)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self._calls:
            message |= {"content": text or None, "tool_calls": [_call_dict(call) for call in self._calls]}
        spoken = self._wanted.spoken and not (self._calls and not self._pcm)
        file = ""
        if spoken:
            file = base64.b64encode(await asyncio.to_thread(self._file)).decode()
        if spoken and not self._wanted.is_flashlabs_form:
            expires_at = await self._keep(replies, tenant, text)
            message["content"] = None
            message["audio"] = {"id": self._audio_id, "data": file, "transcript": text, "expires_at": expires_at}
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason(done), "logprobs": None}
        completion = {**self._head("chat.completion"), "choices": [choice], "usage": _usage(done)}
        completion |= out_of_domain_member(done.out_of_domain)
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
                    elif isinstance(event, ToolCallMade):
                        yield self._chunk({"tool_calls": [{"index": len(self._calls), **_call_dict(event)}]})
                        self._calls.append(event)
                    elif isinstance(event, TurnDone):
                        spoken = self._wanted.spoken and not (self._calls and not self._texts)
                        if spoken and (piece := writer.finish()):
                            yield self._chunk(self._audio_delta(piece))
                        if spoken:
                            expires_at = await self._keep(replies, tenant, "".join(self._texts))
                            yield self._chunk({"audio": {"id": self._audio_id, "expires_at": expires_at}})
                        yield self._chunk({}, self._finish_reason(event), out_of_domain_member(event.out_of_domain))
                        if self._wanted.stream_options and self._wanted.stream_options.include_usage:
                            head = self._head("chat.completion.chunk")
                            yield server_sent_event({**head, "choices": [], "usage": _usage(event)})
            except ChromaError as error:
                if not started:
                    raise
                yield server_sent_event({"error": error_body(error)})
        yield b"data: [DONE]\n\n"

    def _file(self) -> bytes:
        """The reply's whole audio file, signed if the operator has a certificate for it."""
        file = whole_file(self._wanted.file_format, bytes(self._pcm))
        return self._credentials.sign(self._wanted.file_format, file) if self._credentials else file

    async def _keep(self, replies: Replies, tenant: str, text: str) -> int:
        """Keep the reply's text, unless the client asked that it be not. Returns when it expires."""
        if self._wanted.store is False:
            return self._created
        return await replies.keep(tenant, self._audio_id, text)

    def _text_delta(self, text: str) -> dict[str, Any]:
        if self._wanted.spoken:
            return {"audio": {"id": self._audio_id, "transcript": text}}
        return {"content": text}

    def _audio_delta(self, data: bytes) -> dict[str, Any]:
        return {"audio": {"id": self._audio_id, "data": base64.b64encode(data).decode()}}

    def _finish_reason(self, done: TurnDone) -> str:
        if done.is_cut:
            return "length"
        return "tool_calls" if self._calls else "stop"

    def _chunk(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        extension: Mapping[str, Any] = MappingProxyType({}),
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return server_sent_event({**self._head("chat.completion.chunk"), "choices": [choice], **extension})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._wanted.model or MODEL}


def _call_dict(call: ToolCallMade) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function}


def _usage(done: TurnDone) -> dict[str, Any]:
    tokens = Tokens.of(done)
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {
            "audio_tokens": tokens.input_audio,
            "text_tokens": tokens.input_text,
            "cached_tokens": tokens.cached,
        },
        "completion_tokens_details": {
            "audio_tokens": tokens.output_audio,
            "text_tokens": tokens.output_text,
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "input_audio_seconds": round(done.input_audio_s, 3),
        "output_audio_seconds": round(done.output_audio_s, 3),
    }
