"""What a question is about, told from the tower's rows alone: an auxiliary task beside spelling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.domain import Domain

OTHERS = ("outside", "repeat")
"""The subjects after the intents. What is no speech is outside."""

_LOOKS = 4


def subject_numbers(domain: Domain) -> dict[str, int]:
    """The number of each intent and of `OTHERS`."""
    return {name: number for number, name in enumerate([*(intent.name for intent in domain.intents), *OTHERS])}


class SubjectHead(nn.Module):
    """Each clip's rows, averaged with a few learnt attentions, to its subject; not part of the checkpoint."""

    def __init__(self, width: int, subjects: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.looks = nn.Linear(width, _LOOKS)
        self.subject = nn.Linear(_LOOKS * width, subjects)

    def forward(self, heard: Tensor, clip_rows: Tensor) -> Tensor:
        """heard [N, D], the rows of all clips, one after the other -> float32 [clips, subjects]."""
        rows = nn.utils.rnn.pad_sequence(list(self.norm(heard).split(clip_rows.tolist())), batch_first=True)
        seen = torch.arange(rows.shape[1], device=rows.device)[None, :] < clip_rows[:, None]
        scores = self.looks(rows).float().masked_fill(~seen[:, :, None], -torch.inf)  # [clips, R, looks]
        means = scores.softmax(dim=1).transpose(1, 2).to(rows.dtype) @ rows  # [clips, looks, D]
        return self.subject(means.flatten(1)).float()


def subject_loss(scores: Tensor, subjects: Tensor) -> Tensor:
    """The mean cross-entropy over the clips."""
    return F.cross_entropy(scores, subjects)
