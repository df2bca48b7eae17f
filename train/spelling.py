"""Speech as letters: the auxiliary task that makes the tower hear words, whoever says them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.patterns import plain

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
"""Ids 1 and on; 0 is the blank."""


def spell(text: str) -> Tensor:
    """int64 [n]: the letters of a sentence as it sounds."""
    return torch.tensor([1 + LETTERS.index(letter) for letter in plain(text)], dtype=torch.int64)


class SpellingHead(nn.Module):
    """Letters from the tower's rows; not part of the checkpoint."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.letters = nn.Linear(width, 1 + len(LETTERS))

    def forward(self, heard: Tensor, clip_rows: Tensor, letters: Tensor, letter_counts: Tensor) -> Tensor:
        """The mean CTC loss a letter over the clips that have letters.

        Args:
            heard: [N, D], the rows of all clips, one after the other.
            clip_rows: int64 [clips], each clip's rows.
            letters: int64, the letters of all clips, one after the other.
            letter_counts: int64 [clips]; 0 for a clip that is no speech, which then must stay blank.
        """
        scores = self.letters(self.norm(heard)).float().log_softmax(dim=-1)
        clips = torch.nn.utils.rnn.pad_sequence(list(scores.split(clip_rows.tolist())))  # [most rows, clips, letters]
        return F.ctc_loss(clips, letters, clip_rows, letter_counts, blank=0, zero_infinity=True)
