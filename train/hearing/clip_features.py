"""A whole clip as the tower sees it: what `services.reasoner.model.clip` makes of the clip piece by piece."""

from __future__ import annotations

import torch

from services.reasoner.model.mel import CLAMP_DECADES, N_FFT, MelFilters, log_mel, scaled, valid_frames

_REACH = N_FFT // 2


def clip_features(pcm: torch.Tensor, mel: MelFilters) -> torch.Tensor:
    """Scaled log-mel [T, bins] of a clip, float32 [S] at 16 kHz, S more than 200. (docs/model.md, section 7)

    The clip's mirrored beginning stands before it, zeros after it; the loudest bin sets the floor of all.
    """
    assert pcm.shape[0] > _REACH, f"expected more than {_REACH} samples, got {pcm.shape[0]}"
    frames = log_mel(torch.cat([pcm[1 : _REACH + 1].flip(0), pcm, pcm.new_zeros(2 * N_FFT)]), mel)
    return scaled(frames[: valid_frames(pcm.shape[0])], float(frames.max()) - CLAMP_DECADES)
