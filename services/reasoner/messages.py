"""The messages that enter and leave the reasoner's engine, in order.

TurnOpen -> Conversation, then Audio | Text ..., Commit, then ForcedText ... (forced replies only)
Thought ..., Done ->
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch

from services.reasoner.model.parts import Piece
from services.reasoner.model.tools import ToolCall, ToolFormat, ToolUse


class Prompt(Protocol):
    """The layout of a turn's prompt: `ChatPrompt`. Each method returns the pieces that became known."""

    def opening(self) -> list[Piece]: ...
    def text(self, text: str, /) -> list[Piece]: ...
    def begin_audio(self) -> list[Piece]: ...
    def end_audio(self) -> list[Piece]: ...
    def close(self) -> list[Piece]: ...

    @property
    def common_positions(self) -> int:
        """Leading positions that hold the deployment's own text only. Known when the first pieces are."""
        ...


@dataclass(frozen=True)
class TurnOpen:
    """What a turn needs to be admitted.

    `forced`: the reply's text comes as `ForcedText` after the commit. `max_thoughts`: None for the runner's limit.
    `keep_prefix`: whether the turn's keys and values stay for later turns while their memory is not needed.
    `erase_at_end`: whether the memory that the turn used is overwritten when the turn has ended.
    `session_id`: whose keys and values they are. `scope`: names the turns that share keys and values; empty: the turn
    shares those of the deployment's own text only. `tool_format`: how the template writes calls; None: the turn names
    no tools. `tool_use`: how the reply may use them. `low_priority`: the turn waits while any other turn has work.
    """

    forced: bool = False
    max_thoughts: int | None = None
    keep_prefix: bool = False
    erase_at_end: bool = False
    session_id: str = ""
    scope: str = ""
    tool_format: ToolFormat | None = None
    tool_use: ToolUse = field(default_factory=ToolUse)
    low_priority: bool = False


@dataclass(frozen=True)
class Conversation:
    """The first input, once: the layout of the conversation so far. It is made after the admission."""

    prompt: Prompt


@dataclass(frozen=True)
class Audio:
    """Speech of the user: float32 [S] at 16 kHz. `end_of_part`: the next audio is another recording."""

    pcm: torch.Tensor
    end_of_part: bool = False


@dataclass(frozen=True)
class Text:
    """A text part of the user's turn."""

    text: str


@dataclass(frozen=True)
class Commit:
    """The user's turn is complete: thinking starts."""


@dataclass(frozen=True)
class ForcedText:
    """A piece of the forced reply. The end of the stream's input ends the reply."""

    text: str


TurnInput = Conversation | Audio | Text | Commit | ForcedText


@dataclass(frozen=True)
class PromptUsage:
    """What the prompt took.

    `prompt_tokens` are its positions, `cached_tokens` those of them that were in the KV cache and needed no prefill.
    `prefill_s` are the seconds from the commit to the hidden state of the last position.
    """

    prompt_tokens: int
    cached_tokens: int
    prefill_s: float


@dataclass(frozen=True)
class Thought:
    """One step of the thinker: a token, and the hidden state [D] behind it, on the CPU in the compute dtype.

    The token was chosen from the hidden state, or is the next one of the forced text. `text` became complete with this
    token. `last`: no thought follows. The first thought has the `usage`. `is_call`: the thought is part of a tool call.
    It has no text. The first of them has im_end as its token; `is_spoken` is false for the others.
    """

    index: int
    token_id: int
    text: str
    hidden: torch.Tensor
    last: bool
    usage: PromptUsage | None = None
    is_call: bool = False
    is_spoken: bool = True


EndReason = Literal["eos", "limit", "positions", "forced"]


@dataclass(frozen=True)
class Done:
    """What the whole turn took.

    `audio_s` is the audio of this turn. `recomputed_chunks` counts 2 s chunks that were encoded again because a later
    part was louder. `calls` are the tool calls of the reply. `unreadable_call` says why they cannot be read; empty
    when they can.
    """

    reason: EndReason
    usage: PromptUsage
    audio_s: float
    recomputed_chunks: int
    calls: tuple[ToolCall, ...] = ()
    unreadable_call: str = ""


TurnOutput = Thought | Done
