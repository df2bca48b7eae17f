"""The messages that enter and leave the reasoner's engine, in order.

TurnOpen -> Conversation, then Audio | Text ..., Commit, then ForcedText ... (forced replies only)
Thought ..., Done ->
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from services.reasoner.model.prompt import Piece


class Prompt(Protocol):
    """The layout of a turn's prompt: `ChatPrompt`. Each method returns the pieces that became known."""

    def opening(self) -> list[Piece]: ...
    def text(self, text: str, /) -> list[Piece]: ...
    def begin_audio(self) -> list[Piece]: ...
    def end_audio(self) -> list[Piece]: ...
    def close(self) -> list[Piece]: ...


@dataclass(frozen=True)
class TurnOpen:
    """What a turn needs to be admitted.

    `forced`: the reply's text comes as `ForcedText` after the commit. `max_thoughts`: None for the runner's limit.
    `keep_prefix`: whether the turn's keys and values stay for later turns while their memory is not needed.
    """

    forced: bool = False
    max_thoughts: int | None = None
    keep_prefix: bool = False


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
    token. `last`: no thought follows. The first thought has the `usage`.
    """

    index: int
    token_id: int
    text: str
    hidden: torch.Tensor
    last: bool
    usage: PromptUsage | None = None


EndReason = Literal["eos", "limit", "positions", "forced"]


@dataclass(frozen=True)
class Done:
    """What the whole turn took.

    `audio_s` is the audio of this turn. `recomputed_chunks` counts 2 s chunks that were encoded again because a later
    part was louder.
    """

    reason: EndReason
    usage: PromptUsage
    audio_s: float
    recomputed_chunks: int


TurnOutput = Thought | Done
