"""Recordings with their labels, and the tower's input for a whole recording."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.reasoner.model.mel import CLAMP_DECADES, N_FFT, MelFilters, log_mel, scaled, valid_frames
from train.hearing.auxiliary_tasks import spell
from train.hearing.clip_batch import LabelledClip

_REACH = N_FFT // 2


@dataclass(frozen=True)
class Recording:
    """A recording: float32 [S] at 16 kHz, its text (empty without speech), and the number of its subject."""

    pcm: torch.Tensor
    text: str
    subject: int


def labelled_clip(recording: Recording, mel: MelFilters) -> LabelledClip:
    """The tower's input for a recording, with the targets of the auxiliary tasks."""
    return LabelledClip(clip_features(recording.pcm, mel), spell(recording.text), recording.subject)


def clip_features(pcm: torch.Tensor, mel: MelFilters) -> torch.Tensor:
    """Scaled log-mel [T, bins] of a clip, float32 [S] at 16 kHz, S more than 200. (docs/model.md, section 7)

    `services.reasoner.model.clip` computes the same piece by piece. The clip is padded with its mirrored beginning in
    front and with zeros at the end. The loudest bin determines the floor of all bins.
    """
    assert pcm.shape[0] > _REACH, f"expected more than {_REACH} samples, got {pcm.shape[0]}"
    frames = log_mel(torch.cat([pcm[1 : _REACH + 1].flip(0), pcm, pcm.new_zeros(2 * N_FFT)]), mel)
    return scaled(frames[: valid_frames(pcm.shape[0])], float(frames.max()) - CLAMP_DECADES)
