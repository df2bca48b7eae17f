"""A batch of speeches, padded to the longest: the input of one training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from train.speech.positions import SpeechRows


@dataclass(frozen=True)
class SpeechBatch:
    """B speeches of L rows, by `voices` [B]. Indices (`*_at`) are into the flattened batch: speech * L + row."""

    speeches: int
    length: int
    text_at: Tensor  # int64 [N]
    text_ids: Tensor  # int64 [N]
    hidden_at: Tensor  # int64 [H]
    hidden: Tensor  # float32 [H, D]
    frame_at: Tensor  # int64 [F]
    frame_codes: Tensor  # int64 [F, K], the codes of earlier frames
    target_at: Tensor  # int64 [T]
    targets: Tensor  # int64 [T, K]
    voices: tuple[str, ...] = ()

    @classmethod
    def of(cls, speeches: Sequence[SpeechRows], hidden: Tensor, voices: Sequence[str] = ()) -> SpeechBatch:
        """The batch of these speeches. `hidden` [H, D] holds the hidden state of every thought of theirs, in order."""
        length = max(speech.length for speech in speeches)

        def placed(name: str) -> Tensor:
            return _joined([getattr(speech, name) + index * length for index, speech in enumerate(speeches)])

        return cls(
            speeches=len(speeches),
            length=length,
            text_at=placed("text_at"),
            text_ids=_joined([speech.text_ids for speech in speeches]),
            hidden_at=placed("hidden_at"),
            hidden=hidden,
            frame_at=placed("frame_at"),
            frame_codes=_joined([speech.frame_codes for speech in speeches]),
            target_at=placed("target_at"),
            targets=_joined([speech.targets for speech in speeches]),
            voices=tuple(voices),
        )

    def to(self, device: torch.device | str) -> SpeechBatch:
        """The batch on another device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


def _joined(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays).astype(np.int64))
