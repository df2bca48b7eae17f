"""Conversations joined into one batch: padded token ids, and the mel chunks of all their clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from services.reasoner.model.audio_tower import audio_rows
from train.hearing_model import chunks_of


@dataclass(frozen=True)
class HeardClip:
    """A clip of a conversation as the tower is to see it."""

    mel: Tensor
    """Scaled features [T, bins]."""
    letters: Tensor
    """int64 [n]: what is said in it, in the letters of train/spelling.py; empty for what is no speech."""


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
    """B conversations of at most L rows; their C chunks make N rows; M tokens are to be chosen; Q clips are spoken."""

    ids: Tensor
    """int64 [B, L]"""
    mel: Tensor
    """float32 [C, T, bins]"""
    mel_frames: Tensor
    """int64 [C]"""
    audio_at: Tensor
    """int64 [N]: where the tower's rows stand in the flattened ids."""
    target_at: Tensor
    """int64 [M]: places in the flattened ids."""
    targets: Tensor
    """int64 [M]"""
    reply_of: Tensor
    """int64 [M]: the conversation of each target."""
    clip_rows: Tensor
    """int64 [clips]: the tower's rows of each clip."""
    letters: Tensor
    """int64: those of all clips, one after the other."""
    letter_counts: Tensor
    """int64 [clips]"""

    def to(self, device: torch.device) -> ConversationBatch:
        """The batch on another device."""
        return ConversationBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def join(conversations: Sequence[LaidOut], *, audio_id: int, chunk_frames: int) -> ConversationBatch:
    """One batch of conversations of about the same length."""
    length = max(len(one.ids) for one in conversations)
    ids = torch.zeros(len(conversations), length, dtype=torch.int64)
    for row, one in enumerate(conversations):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
    clips = [clip for one in conversations for clip in one.clips]
    chunks = [chunk for clip in clips for chunk in chunks_of(clip.mel, chunk_frames)]
    none = torch.zeros(0, dtype=torch.int64)
    return ConversationBatch(
        ids=ids,
        mel=pad_sequence(chunks, batch_first=True).float() if chunks else torch.zeros(0, chunk_frames, 1),
        mel_frames=torch.tensor([chunk.shape[0] for chunk in chunks], dtype=torch.int64),
        audio_at=(ids.flatten() == audio_id).nonzero().flatten(),
        target_at=torch.tensor([row * length + at for row, one in enumerate(conversations) for at in one.target_at]),
        targets=torch.tensor([token for one in conversations for token in one.targets]),
        reply_of=torch.tensor([row for row, one in enumerate(conversations) for _ in one.targets]),
        clip_rows=torch.tensor([audio_rows(clip.mel.shape[0]) for clip in clips], dtype=torch.int64),
        letters=torch.cat([none, *(clip.letters for clip in clips)]),
        letter_counts=torch.tensor([len(clip.letters) for clip in clips], dtype=torch.int64),
    )
