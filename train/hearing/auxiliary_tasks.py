"""Auxiliary tasks of the audio tower's training: spelling and naming the subject. Checkpoints omit their heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.corpus.domain import Domain
from train.corpus.patterns import plain
from train.hearing.clip_batch import ClipBatch

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
"""The letters have the ids from 1 on; id 0 is CTC's blank."""
OTHER_SUBJECTS = ("outside", "repeat")
"""The subjects after the intents. A clip without speech has the subject `outside`."""

_ATTENTIONS = 4


def spell(text: str) -> Tensor:
    """int64 [n]: the ids of the letters of `plain(text)`."""
    return torch.tensor([1 + LETTERS.index(letter) for letter in plain(text)], dtype=torch.int64)


def subject_numbers(domain: Domain) -> dict[str, int]:
    """The number of each intent and of `OTHER_SUBJECTS`."""
    return {name: number for number, name in enumerate([*(intent.name for intent in domain.intents), *OTHER_SUBJECTS])}


class AuxiliaryHeads(nn.Module):
    """Both heads, for `subjects` subjects and tower outputs of `width`."""

    def __init__(self, width: int, subjects: int) -> None:
        super().__init__()
        self.spelling = SpellingHead(width)
        self.subject = SubjectHead(width, subjects)

    def forward(self, outputs: Tensor, clips: ClipBatch) -> tuple[Tensor, Tensor]:
        """The loss of each head for the tower's outputs [N, D]: a mean over letters, a mean over clips; 0 without
        clips.
        """
        if not len(clips):
            return outputs.new_zeros(()), outputs.new_zeros(())
        spelling = self.spelling(outputs, clips.embedding_counts, clips.letters, clips.letter_counts)
        return spelling, F.cross_entropy(self.subject(outputs, clips.embedding_counts), clips.subjects)


class SpellingHead(nn.Module):
    """Letters from the tower's outputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.letters = nn.Linear(width, 1 + len(LETTERS))

    def forward(self, outputs: Tensor, embedding_counts: Tensor, letters: Tensor, letter_counts: Tensor) -> Tensor:
        """The mean CTC loss per letter over the clips that have letters.

        Args:
            outputs: [N, D], the tower's outputs for all clips, one clip after the other.
            embedding_counts: int64 [clips], the number of each clip's outputs.
            letters: int64, the letters of all clips, one clip after the other.
            letter_counts: int64 [clips]; 0 for a clip without speech, for which the head learns blanks.
        """
        scores = self.letters(self.norm(outputs)).float().log_softmax(dim=-1)
        clips = nn.utils.rnn.pad_sequence(list(scores.split(embedding_counts.tolist())))  # [longest, clips, letters]
        return F.ctc_loss(clips, letters, embedding_counts, letter_counts, blank=0, zero_infinity=True)


class SubjectHead(nn.Module):
    """The subject of each clip, from averages of its outputs with a few learned attentions."""

    def __init__(self, width: int, subjects: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.looks = nn.Linear(width, _ATTENTIONS)
        self.subject = nn.Linear(_ATTENTIONS * width, subjects)

    def forward(self, outputs: Tensor, embedding_counts: Tensor) -> Tensor:
        """outputs [N, D] of all clips, one clip after the other -> logits float32 [clips, subjects]."""
        rows = nn.utils.rnn.pad_sequence(list(self.norm(outputs).split(embedding_counts.tolist())), batch_first=True)
        valid = torch.arange(rows.shape[1], device=rows.device)[None, :] < embedding_counts[:, None]
        scores = self.looks(rows).float().masked_fill(~valid[:, :, None], -torch.inf)  # [clips, R, attentions]
        means = scores.softmax(dim=1).transpose(1, 2).to(rows.dtype) @ rows  # [clips, attentions, D]
        return self.subject(means.flatten(1)).float()
