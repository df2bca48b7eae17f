"""The parts and messages of a conversation, and the pieces that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from services.reasoner.model.clip import clip_keys
from services.reasoner.model.tools import ToolCall


@dataclass(frozen=True)
class TextPart:
    """Plain text of a message."""

    text: str


@dataclass(frozen=True)
class TokenPart:
    """Token ids of the checkpoint's vocabulary: a past reply."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class AudioPart:
    """A recording of the user: float32 [S] at 16 kHz."""

    pcm: torch.Tensor
    keys: list[int] = field(init=False, repr=False)
    """Cache keys of its positions."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", clip_keys(self.pcm))


Part = TextPart | TokenPart | AudioPart

Piece = list[int] | AudioPart
"""Token ids, or a whole recording."""


@dataclass(frozen=True)
class Message:
    """One past message of the conversation.

    `tool_calls` are the calls that an assistant's message ends with. A message of a tool holds the result of the call
    `call_id` of the tool `name`, as text.
    """

    role: Literal["user", "assistant", "tool"]
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""


def keys_of(pieces: Sequence[Piece]) -> list[int]:
    """Cache keys of the positions that the pieces become. A token's key is its id."""
    return [key for piece in pieces for key in (piece.keys if isinstance(piece, AudioPart) else piece)]
