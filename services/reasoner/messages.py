"""What crosses the reasoner's engine: one typed message an arrow.

TurnOpen, then Audio | Text ..., Commit, then GivenText ... (given replies only)   -> Thought ..., Done
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
    """One turn of a conversation.

    `given`: the reply's text comes with `GivenText` after the commit. `max_thoughts`: None for the runner's limit.
    `keeps_rows`: whether what the turn computed stays for later turns, as long as nobody needs the memory.
    """

    prompt: Prompt
    given: bool = False
    max_thoughts: int | None = None
    keeps_rows: bool = False


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
    """The user's turn is complete: think."""


@dataclass(frozen=True)
class GivenText:
    """A piece of the given reply. The end of the stream's input ends the reply."""

    text: str


TurnInput = Audio | Text | Commit | GivenText


@dataclass(frozen=True)
class Heard:
    """What hearing the user's turn took.

    `prompt_tokens` are rows of the prompt, `cached_tokens` those of them that were held and needed no prefill.
    `prefill_s` runs from the commit to the last prompt row.
    """

    prompt_tokens: int
    cached_tokens: int
    prefill_s: float


@dataclass(frozen=True)
class Thought:
    """One step of the thinker: `token_id` was chosen from `hidden` [D], on the CPU in the compute dtype.

    `text` is what became complete with this token. `last`: no thought follows. `heard` comes with the first thought.
    """

    index: int
    token_id: int
    text: str
    hidden: torch.Tensor
    last: bool
    heard: Heard | None = None


EndReason = Literal["eos", "limit", "positions", "given"]


@dataclass(frozen=True)
class Done:
    """What the turn took.

    Prompt tokens, cached tokens and prefill time as in `Heard`. `audio_s` is this turn's audio; `redone_chunks` counts
    2 s chunks encoded again because a later part was louder.
    """

    reason: EndReason
    prompt_tokens: int
    cached_tokens: int
    prefill_s: float
    audio_s: float
    redone_chunks: int


TurnOutput = Thought | Done
