"""Recordings joined into one batch: the mel chunks of all of them, and what is said in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from services.reasoner.model.audio_tower import audio_tokens
from train.hearing.model import chunks_of


@dataclass(frozen=True)
class HeardClip:
    """A clip as the tower is to see it, and what it should make of it."""

    mel: Tensor
    """Scaled features [T, bins]."""
    letters: Tensor
    """int64 [n]: what is said in it (train/hearing/spelling.py); empty for what is no speech."""
    subject: int
    """What it is about (train/hearing/subjects.py)."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips, whose C chunks make N rows of the tower."""

    mel: Tensor
    """float32 [C, T, bins]"""
    mel_frames: Tensor
    """int64 [C]"""
    clip_rows: Tensor
    """int64 [clips]: the tower's rows of each clip."""
    letters: Tensor
    """int64: those of all clips, one after the other."""
    letter_counts: Tensor
    """int64 [clips]"""
    subjects: Tensor
    """int64 [clips]"""

    def __len__(self) -> int:
        return len(self.clip_rows)

    def to(self, device: torch.device) -> ClipBatch:
        """The batch on another device."""
        return ClipBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def join_clips(clips: Sequence[HeardClip], chunk_frames: int) -> ClipBatch:
    """One batch; there may be no clip in it."""
    chunks = [chunk for clip in clips for chunk in chunks_of(clip.mel, chunk_frames)]
    return ClipBatch(
        mel=pad_sequence(chunks, batch_first=True).float() if chunks else torch.zeros(0, chunk_frames, 1),
        mel_frames=_integers([chunk.shape[0] for chunk in chunks]),
        clip_rows=_integers(
            [sum(audio_tokens(c.shape[0]) for c in chunks_of(clip.mel, chunk_frames)) for clip in clips]
        ),
        letters=torch.cat([_integers([]), *(clip.letters for clip in clips)]),
        letter_counts=_integers([len(clip.letters) for clip in clips]),
        subjects=_integers([clip.subject for clip in clips]),
    )


def _integers(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
