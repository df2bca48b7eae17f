"""ReasonerService over the reasoner's engine: messages in, checks, messages out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Literal

import torch

from chroma.v1 import reasoner_pb2, reasoner_pb2_grpc, tools_pb2
from chroma.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioEncoding
from chroma.v1.generation_pb2 import END_REASON_EOS, END_REASON_GIVEN, END_REASON_LIMIT, END_REASON_POSITIONS
from chroma.v1.reasoner_pb2 import (
    PRIORITY_LOW,
    REPLY_SOURCE_GIVEN,
    ROLE_ASSISTANT,
    ROLE_TOOL,
    ROLE_USER,
    ThinkDone,
    ThinkOpen,
    ThinkOpened,
    ThinkRequest,
    ThinkResponse,
    Thoughts,
)
from chroma.v1.tools_pb2 import TOOL_CHOICE_AUTO, TOOL_CHOICE_NONE, TOOL_CHOICE_REQUIRED, TOOL_CHOICE_UNSPECIFIED
from services.common.errors import InvalidArgument, OutOfRange
from services.common.rpc.requests import fed_by, kind_of, read_open, unexpected
from services.common.telemetry.tracing import mark, note
from services.common.wire import tensors
from services.common.wire.audio import HEARING_RATE_HZ, THOUGHT_S
from services.common.wire.pcm import check_encoding, decode_pcm
from services.reasoner.messages import (
    Audio,
    Commit,
    Conversation,
    Done,
    ForcedText,
    PromptUsage,
    Text,
    Thought,
    TurnInput,
    TurnOpen,
    TurnOutput,
)
from services.reasoner.model.parts import AudioPart, Message, Part, TextPart, TokenPart, keys_of
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.reasoner.model.tools import Tool, ToolCall, ToolFormat, ToolUse, json_object
from services.reasoner.request import CHARACTERS_PER_POSITION, ThinkStream
from services.reasoner.runner import ThinkRunner
from services.reasoner.scheduler import Batch
from services.runtime.checkpoint.dtypes import to_raw
from services.runtime.engine.engine import Engine
from services.runtime.engine.groups import in_groups

ThinkEngine = Engine[TurnOpen, TurnInput, TurnOutput, Batch]

_MAX_TOOLS = 128

_CHOICES: dict[int, Literal["auto", "none", "required"]] = {
    TOOL_CHOICE_UNSPECIFIED: "auto",
    TOOL_CHOICE_AUTO: "auto",
    TOOL_CHOICE_NONE: "none",
    TOOL_CHOICE_REQUIRED: "required",
}

_HOLD_S, _LONGEST_HOLD_S = 0.06, 1.0
"""A thought that is far ahead of its speech is held at most for this long, so that others can share its message: for a
caller that says nothing, and for any caller."""

GROUP_THOUGHTS = 16
"""Most thoughts of a message: 64 kB of hidden states of the published checkpoint."""

_ENDS = ("audio", "text")
"""Messages that may end the user's turn."""

_REASONS = {
    "eos": END_REASON_EOS,
    "limit": END_REASON_LIMIT,
    "positions": END_REASON_POSITIONS,
    "forced": END_REASON_GIVEN,
}


class ReasonerServicer(reasoner_pb2_grpc.ReasonerServiceServicer):
    """Think as `reasoner.proto` specifies it. Hanging up frees the slot and its pages within one step.

    Args:
        engine: runs `runner`.
        system_prompt: for a turn without one. None: the default of the chat template.
        vocab_size: bounds the token ids of a history.
        max_audio_s: longest recording of a turn.
    """

    def __init__(
        self,
        engine: ThinkEngine,
        runner: ThinkRunner,
        template: ChatTemplate,
        *,
        system_prompt: str | None = None,
        vocab_size: int,
        max_audio_s: float,
        checkpoint_fingerprint: str,
    ) -> None:
        self._engine = engine
        self._runner = runner
        self._template = template
        self._system_prompt = system_prompt
        self._vocab_size = vocab_size
        self._max_audio_samples = int(max_audio_s * HEARING_RATE_HZ)
        self._checkpoint_fingerprint = checkpoint_fingerprint

    async def Think(  # noqa: N802
        self, request_iterator: AsyncIterator[ThinkRequest], context: Any
    ) -> AsyncIterator[ThinkResponse]:
        """A user's turn to thoughts."""
        opened = (await read_open(request_iterator)).open
        async with (
            self._engine.open(_read_open(opened, self._template.tools)) as stream,
            fed_by(stream, self._feed_turn(stream, request_iterator, opened)),
        ):
            fingerprint = self._checkpoint_fingerprint
            yield ThinkResponse(opened=ThinkOpened(checkpoint_fingerprint=fingerprint, takes_ends_turn=True))
            hold_s, most = (hold_s_of(opened), GROUP_THOUGHTS) if opened.takes_groups else (0.0, 1)
            async for outputs in in_groups(stream, output_s=THOUGHT_S, hold_s=hold_s, most=most):
                thoughts = [_thought(output) for output in outputs if isinstance(output, Thought)]
                if thoughts:
                    mark("first_thought")
                if len(thoughts) == 1:
                    yield ThinkResponse(thought=thoughts[0])
                elif thoughts:
                    yield ThinkResponse(thoughts=Thoughts(thoughts=thoughts))
                if isinstance(done := outputs[-1], Done):
                    note(
                        prompt_tokens=done.usage.prompt_tokens,
                        cached_tokens=done.usage.cached_tokens,
                        redone_chunks=done.recomputed_chunks,
                        audio_s=done.audio_s,
                        prefill_s=done.usage.prefill_s,
                    )
                    yield ThinkResponse(done=_done(done))

    async def CountPrompt(  # noqa: N802
        self, request: reasoner_pb2.CountPromptRequest, context: Any
    ) -> reasoner_pb2.CountPromptResponse:
        """Count the positions of a system prompt and of tools: milliseconds, beside the event loop."""
        opened = ThinkOpen(tools=request.tools)
        if request.HasField("system_prompt"):
            opened.system_prompt = request.system_prompt
        prompt = (await asyncio.to_thread(self._lay_out, opened)).prompt
        return reasoner_pb2.CountPromptResponse(tokens=len(keys_of(prompt.opening())))

    async def Forget(  # noqa: N802
        self, request: reasoner_pb2.ForgetRequest, context: Any
    ) -> reasoner_pb2.ForgetResponse:
        """Remove what this replica has kept of a session or a scope."""
        if request.session_id:
            await self._engine.call(partial(self._runner.forget_session, request.session_id))
        elif request.cache_scope:
            await self._engine.call(partial(self._runner.forget_scope, _scope(request.cache_scope)))
        else:
            raise InvalidArgument("expected `session_id` or `cache_scope`, got neither")
        return reasoner_pb2.ForgetResponse()

    def _lay_out(self, opened: ThinkOpen) -> Conversation:
        """Decode, render, tokenise and hash the conversation so far: milliseconds for a long one.

        Raises OutOfRange, before it does any of it, for a conversation that the positions cannot hold.
        """
        self._check_size(opened)
        history = [self._message(index, message) for index, message in enumerate(opened.history)]
        system_prompt = opened.system_prompt if opened.HasField("system_prompt") else self._system_prompt
        is_common = not opened.HasField("system_prompt")
        tools = [] if opened.tools.choice == TOOL_CHOICE_NONE else [_tool(tool) for tool in opened.tools.tools]
        return Conversation(
            ChatPrompt(self._template, system_prompt, history, tools=tools, system_prompt_is_common=is_common)
        )

    def _check_size(self, opened: ThinkOpen) -> None:
        """Raise OutOfRange for more messages, token ids or characters than the reasoner's positions can hold."""
        positions = self._runner.max_positions
        parts = [part for message in opened.history for part in message.parts]
        calls = [call for message in opened.history for call in message.tool_calls]
        tools = opened.tools.tools
        for what, found, most in (
            ("messages, parts and tool calls", len(opened.history) + len(parts) + len(calls), 2 * positions),
            ("token ids", sum(len(part.token_ids.ids) for part in parts), positions),
            (
                "characters of text",
                len(opened.system_prompt)
                + sum(len(part.text) for part in parts)
                + sum(len(call.name) + len(call.arguments) for call in calls)
                + sum(len(tool.name) + len(tool.description) + len(tool.parameters) for tool in tools),
                CHARACTERS_PER_POSITION * positions,
            ),
        ):
            if found > most:
                raise OutOfRange(
                    f"the conversation has {found} {what}, expected at most {most}: shorten the system prompt or drop "
                    "the oldest turns"
                )

    def _message(self, index: int, message: reasoner_pb2.Message) -> Message:
        where = f"history message {index}"
        parts = tuple(self._part(where, part) for part in message.parts)
        if message.role == ROLE_USER:
            return Message("user", parts)
        if message.role == ROLE_ASSISTANT:
            calls = tuple(ToolCall(call.name, call.arguments, call.call_id) for call in message.tool_calls)
            return Message("assistant", parts, calls)
        if message.role == ROLE_TOOL:
            if any(not isinstance(part, TextPart) for part in parts):
                raise InvalidArgument(f"{where}: expected text as the result of a tool")
            return Message("tool", parts, call_id=message.call_id, name=message.tool_name)
        raise InvalidArgument(f"{where}: expected ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL, got number {message.role}")

    def _part(self, where: str, part: reasoner_pb2.Part) -> Part:
        kind = part.WhichOneof("part")
        if kind == "text":
            return TextPart(part.text)
        if kind == "token_ids":
            bad = [token_id for token_id in part.token_ids.ids if token_id >= self._vocab_size]
            if bad:
                raise InvalidArgument(f"{where}: expected token ids in 0..{self._vocab_size - 1}, got {bad[0]}")
            return TokenPart(tuple(part.token_ids.ids))
        if kind == "audio":
            return AudioPart(self._samples(part.audio.data, part.audio.encoding, where))
        raise InvalidArgument(f"{where}: expected a part with one field set, got an empty one")

    def _samples(self, data: bytes, encoding: AudioEncoding.ValueType, where: str) -> torch.Tensor:
        samples = decode_pcm(data, encoding)
        if len(samples) > self._max_audio_samples:
            raise OutOfRange(
                f"{where}: expected at most {self._max_audio_samples / HEARING_RATE_HZ:g} s of audio, "
                f"got {len(samples) / HEARING_RATE_HZ:g} s"
            )
        return torch.from_numpy(samples.copy())

    async def _feed_turn(self, stream: ThinkStream, requests: AsyncIterator[ThinkRequest], opened: ThinkOpen) -> None:
        await stream.feed(await asyncio.to_thread(self._lay_out, opened))
        samples = 0
        async for request in requests:
            kind = kind_of(request)
            if request.ends_turn and kind not in _ENDS:
                raise InvalidArgument(f"expected `ends_turn` in `audio` or `text`, got it in `{kind}`")
            match kind:
                case "audio":
                    if opened.audio_encoding == AUDIO_ENCODING_UNSPECIFIED:
                        raise InvalidArgument("expected no audio: `open` gave no `audio_encoding`, got `audio`")
                    pcm = self._samples(request.audio.data, opened.audio_encoding, "the user's turn")
                    samples += len(pcm)
                    if samples > self._max_audio_samples:
                        raise OutOfRange(
                            f"expected at most {self._max_audio_samples / HEARING_RATE_HZ:g} s of audio in a turn, "
                            "got more"
                        )
                    await stream.feed(Audio(pcm, request.audio.end_of_part))
                case "text":
                    await stream.feed(Text(request.text))
                case "commit":
                    await _commit(stream)
                case "given_text":
                    await stream.feed(ForcedText(request.given_text))
                case _:
                    raise unexpected(kind, "`audio`, `text`, `commit` or `given_text` after `open`")
            if request.ends_turn:
                await _commit(stream)
        stream.finish()


async def _commit(stream: ThinkStream) -> None:
    mark("committed")
    await stream.feed(Commit())


def _tool(tool: tools_pb2.Tool) -> Tool:
    """A tool, read. Raises InvalidArgument for parameters that are no JSON object."""
    where = f"the parameters of tool {tool.name[:64]!r}"
    return Tool(
        tool.name,
        tool.description if tool.HasField("description") else None,
        json_object(tool.parameters, where) if tool.parameters else None,
    )


def _tool_use(tools: tools_pb2.Tools) -> ToolUse:
    """How the reply may use the tools. Raises InvalidArgument for a choice that they do not allow."""
    names = {tool.name for tool in tools.tools}
    if len(tools.tools) > _MAX_TOOLS:
        raise InvalidArgument(f"expected at most {_MAX_TOOLS} tools, got {len(tools.tools)}")
    if len(names) < len(tools.tools) or "" in names:
        raise InvalidArgument("expected tools with different names, got one name twice or an empty one")
    choice = _CHOICES.get(tools.choice)
    if choice is None:
        raise InvalidArgument(f"tools: expected a known choice, got number {tools.choice}")
    if choice == "required" and (not names or tools.choice_name not in names | {""}):
        raise InvalidArgument(f"tools: expected the tool that must be called, {tools.choice_name[:64]!r}, among them")
    return ToolUse(choice, tools.choice_name, tools.parallel_calls or not tools.HasField("parallel_calls"))


def hold_s_of(opened: ThinkOpen) -> float:
    """The longest time, in seconds, that a thought of this turn is held."""
    return min(opened.max_hold_s, _LONGEST_HOLD_S) if opened.max_hold_s > 0 else _HOLD_S


def _read_open(opened: ThinkOpen, tool_format: ToolFormat | None) -> TurnOpen:
    """What the admission needs. The history is read after it, so that a full replica refuses at once."""
    if opened.audio_encoding != AUDIO_ENCODING_UNSPECIFIED:
        check_encoding(opened.audio_encoding)
    max_thoughts = opened.max_thoughts if opened.HasField("max_thoughts") else None
    if max_thoughts is not None and max_thoughts < 1:
        raise InvalidArgument(f"max_thoughts: expected at least 1, got {max_thoughts}")
    keep = opened.keep if opened.HasField("keep") else True
    return TurnOpen(
        forced=opened.reply_source == REPLY_SOURCE_GIVEN,
        max_thoughts=max_thoughts,
        keep_prefix=keep and bool(opened.session_id),
        erase_at_end=not keep,
        session_id=opened.session_id,
        scope=_scope(opened.cache_scope, opened.session_id),
        tool_format=tool_format if opened.tools.tools else None,
        tool_use=_tool_use(opened.tools),
        low_priority=opened.priority == PRIORITY_LOW,
    )


def _scope(cache_scope: str, session_id: str = "") -> str:
    """The name of a scope of the prefix cache. Without `cache_scope` a session is a scope of its own."""
    if cache_scope:
        return f"scope {cache_scope}"
    return f"session {session_id}" if session_id else ""


def _thought(thought: Thought) -> reasoner_pb2.Thought:
    return reasoner_pb2.Thought(
        index=thought.index,
        token_id=thought.token_id,
        text=thought.text,
        hidden=tensors.to_message(to_raw(thought.hidden)) if thought.is_spoken else None,
        last=thought.last,
        heard=thought.usage and _heard(thought.usage),
        call=thought.is_call,
    )


def _heard(usage: PromptUsage) -> reasoner_pb2.Heard:
    return reasoner_pb2.Heard(
        prompt_tokens=usage.prompt_tokens, cached_tokens=usage.cached_tokens, prefill_s=usage.prefill_s
    )


def _done(done: Done) -> ThinkDone:
    return ThinkDone(
        reason=_REASONS[done.reason],
        prompt_tokens=done.usage.prompt_tokens,
        cached_tokens=done.usage.cached_tokens,
        audio_s=done.audio_s,
        redone_chunks=done.recomputed_chunks,
        prefill_s=done.usage.prefill_s,
        tool_calls=[tools_pb2.ToolCall(name=call.name, arguments=call.arguments) for call in done.calls],
        unreadable_call=done.unreadable_call,
    )
