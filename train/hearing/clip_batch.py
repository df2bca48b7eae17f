"""A batch of recordings: the mel chunks of all of them, and the letters and subject of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from services.common.wire.audio import tokens_of_mel_frames
from train.hearing.model import chunks_of


@dataclass(frozen=True)
class LabelledClip:
    """The tower's input for one clip, and the targets of the auxiliary tasks."""

    mel: Tensor
    """Scaled features [T, bins]."""
    letters: Tensor
    """int64 [n]: the letters of its text (`auxiliary_tasks.spell`); empty for a clip without speech."""
    subject: int
    """The number of its subject (`auxiliary_tasks.subject_numbers`)."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips with C chunks, of which the tower makes N embeddings."""

    mel: Tensor
    """float32 [C, T, bins]"""
    mel_frames: Tensor
    """int64 [C]"""
    embedding_counts: Tensor
    """int64 [clips]: the number of the tower's embeddings of each clip."""
    letters: Tensor
    """int64: the letters of all clips, one clip after the other."""
    letter_counts: Tensor
    """int64 [clips]"""
    subjects: Tensor
    """int64 [clips]"""

    def __len__(self) -> int:
        return len(self.embedding_counts)

    def to(self, device: torch.device) -> ClipBatch:
        """The batch on another device."""
        return ClipBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def join_clips(clips: Sequence[LabelledClip], chunk_frames: int) -> ClipBatch:
    """The batch of these clips, of which there may be none."""
    chunks = [chunk for clip in clips for chunk in chunks_of(clip.mel, chunk_frames)]
    return ClipBatch(
        mel=pad_sequence(chunks, batch_first=True).float() if chunks else torch.zeros(0, chunk_frames, 1),
        mel_frames=_integers([chunk.shape[0] for chunk in chunks]),
        embedding_counts=_integers(
            [sum(tokens_of_mel_frames(c.shape[0]) for c in chunks_of(clip.mel, chunk_frames)) for clip in clips]
        ),
        letters=torch.cat([_integers([]), *(clip.letters for clip in clips)]),
        letter_counts=_integers([len(clip.letters) for clip in clips]),
        subjects=_integers([clip.subject for clip in clips]),
    )


def _integers(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
