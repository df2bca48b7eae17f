"""The options of a conversation and of a session, and what makes them valid."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioEncoding, AudioFormat
from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.tools_pb2 import TOOL_CHOICE_REQUIRED, ToolChoice, Tools
from gateway.conversation.vad import TurnDetection
from gateway.store.voices import check_voice_id
from services.common.errors import InvalidArgument
from services.common.wire import sampling

MAX_TOOLS = 128
MAX_TOOL_DEPTH = 64
"""Deepest nesting of the schema of a tool's arguments, as the reasoner bounds it."""

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class ConversationOptions:
    """The formats and features that a client asks for. It may change them between two turns."""

    input_format: AudioFormat | None = None
    """The format of the client's audio. None: the client sends no audio."""
    output_encoding: AudioEncoding.ValueType = AUDIO_ENCODING_PCM_S16LE
    max_lead_s: float | None = None
    """The most speech made ahead of the listener. None: the speech generator's default."""
    turn_detection: TurnDetection | None = None
    """None: the client commits its turns."""
    transcribe: bool = False
    """Whether the client gets a transcript of what the user said, after the reply."""
    transcribe_recordings: bool = False
    """Whether the client gets a transcript of each recording of the user when it ends, with or without a reply."""
    replies: bool = True
    """Whether the model replies. False: the user's speech is transcribed only, and forgotten."""
    text_only: bool = False
    """Whether replies are text without speech."""
    stop: tuple[str, ...] = ()
    """A reply ends before the first of these texts that its text would have."""
    max_output_tokens: int | None = None
    """Most tokens of a reply: its text's tokens and its frames of speech together. None: the client sets no limit."""


def check_new(config: SessionConfig, *, max_prompt_chars: int) -> None:
    """Check the settings of a new session. Raises InvalidArgument."""
    if not config.voice_id:
        raise InvalidArgument("expected a `voice_id`, got none")
    check_change(config, max_prompt_chars=max_prompt_chars)


def check_change(config: SessionConfig, *, max_prompt_chars: int) -> None:
    """Check the fields that `config` sets. Raises InvalidArgument."""
    if config.voice_id:
        check_voice_id(config.voice_id)
    if config.HasField("max_reply_s") and not 0 < config.max_reply_s < math.inf:
        raise InvalidArgument(f"expected max_reply_s above 0, got {config.max_reply_s:g}")
    if len(config.system_prompt) > max_prompt_chars:
        got = f"{len(config.system_prompt)} characters"
        raise InvalidArgument(f"expected a system prompt of at most {max_prompt_chars} characters, got {got}")
    if config.HasField("sampling"):
        sampling.from_message(config.sampling)
    if config.HasField("tools"):
        check_tools(config.tools, max_chars=max_prompt_chars)


def check_tools(tools: Tools, *, max_chars: int) -> None:
    """Check the tools of a session or of one reply. Raises InvalidArgument."""
    if len(tools.tools) > MAX_TOOLS:
        raise InvalidArgument(f"expected at most {MAX_TOOLS} tools, got {len(tools.tools)}")
    chars = sum(len(tool.name) + len(tool.description) + len(tool.parameters) for tool in tools.tools)
    if chars > max_chars:
        raise InvalidArgument(f"expected tools of at most {max_chars} characters together, got {chars}")
    names: set[str] = set()
    for index, tool in enumerate(tools.tools):
        if not _TOOL_NAME.fullmatch(tool.name):
            expected = "1 to 64 of A-Z, a-z, 0-9, '_', '-' and '.'"
            raise InvalidArgument(f"tools.{index}.name: expected {expected}, got {tool.name[:80]!r}")
        if tool.name in names:
            raise InvalidArgument(f"tools.{index}.name: expected tools with different names, got {tool.name!r} twice")
        names.add(tool.name)
        if tool.parameters:
            _check_parameters(tool.parameters, f"tools.{index}.parameters")
    if tools.choice not in ToolChoice.values():
        raise InvalidArgument(f"expected a known choice of tools, got number {tools.choice}")
    if tools.choice == TOOL_CHOICE_REQUIRED and not names:
        raise InvalidArgument("expected tools beside the choice that one must be called, got none")
    if tools.choice_name and tools.choice_name not in names:
        raise InvalidArgument(f"expected the tool that must be called among the tools, got {tools.choice_name[:80]!r}")


def _refuse_constant(name: str) -> None:
    """Refuse what Python reads as a number and JSON does not have: NaN and infinities."""
    raise ValueError(name)


def _check_parameters(text: str, where: str) -> None:
    try:
        level = [json.loads(text, parse_constant=_refuse_constant)]
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{where}: expected a JSON object, got text that is not JSON") from None
    if not isinstance(level[0], dict):
        raise InvalidArgument(f"{where}: expected a JSON object, got {type(level[0]).__name__}")
    for _ in range(MAX_TOOL_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise InvalidArgument(f"{where}: expected at most {MAX_TOOL_DEPTH} levels of nesting, got more")
