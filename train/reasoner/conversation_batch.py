"""A batch of conversations: padded token ids, and the clips of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from train.hearing.clip_batch import ClipBatch, LabelledClip, join_clips


@dataclass(frozen=True)
class LaidOut:
    """The thinker's input for a conversation, with the targets."""

    ids: list[int]
    """Token ids; AUDIO at the positions of the clips' embeddings."""
    target_at: list[int]
    """Positions whose next token is a target: those before each token of a reply."""
    targets: list[int]
    """The target tokens; the last one of a reply is im_end."""
    clips: list[LabelledClip]


@dataclass(frozen=True)
class ConversationBatch:
    """B conversations of at most L positions, with N audio embeddings and M target tokens."""

    ids: Tensor
    """int64 [B, L]"""
    clips: ClipBatch
    audio_at: Tensor
    """int64 [N]: positions of the audio embeddings in the flattened ids."""
    target_at: Tensor
    """int64 [M]: positions in the flattened ids."""
    targets: Tensor
    """int64 [M]"""
    reply_of: Tensor
    """int64 [M]: the index of each target's conversation in the batch."""

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
