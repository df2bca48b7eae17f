"""Conversations joined into one batch: padded token ids, and all their clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from train.hearing.clip_batch import ClipBatch, HeardClip, join_clips


@dataclass(frozen=True)
class LaidOut:
    """A conversation as the thinker is to see it."""

    ids: list[int]
    """Of its rows: AUDIO where a clip's rows stand."""
    target_at: list[int]
    """Places whose next token the model must choose: those before each token of a reply."""
    targets: list[int]
    """The tokens to choose there; a reply's last is im_end."""
    clips: list[HeardClip]


@dataclass(frozen=True)
class ConversationBatch:
    """B conversations of at most L rows, in which the clips have N rows; M tokens are to be chosen."""

    ids: Tensor
    """int64 [B, L]"""
    clips: ClipBatch
    audio_at: Tensor
    """int64 [N]: where the tower's rows stand in the flattened ids."""
    target_at: Tensor
    """int64 [M]: places in the flattened ids."""
    targets: Tensor
    """int64 [M]"""
    reply_of: Tensor
    """int64 [M]: the conversation of each target."""

    def to(self, device: torch.device) -> ConversationBatch:
        """The batch on another device."""
        return ConversationBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def join(conversations: Sequence[LaidOut], *, audio_id: int, chunk_frames: int) -> ConversationBatch:
    """One batch of conversations of about the same length."""
    length = max(len(one.ids) for one in conversations)
    ids = torch.zeros(len(conversations), length, dtype=torch.int64)
    for row, one in enumerate(conversations):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
    return ConversationBatch(
        ids=ids,
        clips=join_clips([clip for one in conversations for clip in one.clips], chunk_frames),
        audio_at=(ids.flatten() == audio_id).nonzero().flatten(),
        target_at=torch.tensor([row * length + at for row, one in enumerate(conversations) for at in one.target_at]),
        targets=torch.tensor([token for one in conversations for token in one.targets]),
        reply_of=torch.tensor([row for row, one in enumerate(conversations) for _ in one.targets]),
    )
