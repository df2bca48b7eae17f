"""The heads that teach the tower to hear, and are then thrown away: one spells, one names the subject."""

from __future__ import annotations

from torch import Tensor, nn

from train.clip_batch import ClipBatch
from train.spelling import SpellingHead
from train.subjects import SubjectHead, subject_loss


class ListeningAids(nn.Module):
    """Both heads, for `subjects` subjects and rows of `width`."""

    def __init__(self, width: int, subjects: int) -> None:
        super().__init__()
        self.spelling = SpellingHead(width)
        self.subject = SubjectHead(width, subjects)

    def forward(self, heard: Tensor, clips: ClipBatch) -> tuple[Tensor, Tensor]:
        """The losses of the tower's rows [N, D]: a letter, a clip. Both are 0 without a clip."""
        if not len(clips):
            return heard.new_zeros(()), heard.new_zeros(())
        spelling = self.spelling(heard, clips.clip_rows, clips.letters, clips.letter_counts)
        return spelling, subject_loss(self.subject(heard, clips.clip_rows), clips.subjects)
