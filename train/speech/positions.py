"""The backbone's rows of one speech whose frames are known, as the service would bring them one by one.

    E(text_start) | E(prompt text) | E(text_end) | A(prompt frames) | zero row | then for each frame to be predicted
    [A(frame before)] [h, E(token)]      the pair on even frames while the text lasts, im_end included

The frame after the last is the EOS frame. (docs/model.md, sections 2 to 4; services/speech_gen/model/generator.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.runtime.checkpoint.config import ChromaConfig

FRAMES_PER_THOUGHT = 2


@dataclass(frozen=True)
class Speech:
    """A voice prompt and what to say in that voice: token ids without specials, codes int64 [T, K]."""

    prompt_ids: Sequence[int]
    prompt_codes: np.ndarray
    reply_ids: Sequence[int]
    reply_codes: np.ndarray


@dataclass(frozen=True)
class SpeechRows:
    """Where the rows of one speech stand, counted from 0; the row that nobody names is the zero row.

    `targets` [T + 1, K] are the reply's frames and the EOS frame; `target_at` the row each is read from.
    """

    length: int
    text_at: np.ndarray  # int64 [N]
    text_ids: np.ndarray  # int64 [N]
    hidden_at: np.ndarray  # int64 [thoughts]
    frame_at: np.ndarray  # int64 [prompt frames + T]
    frame_codes: np.ndarray  # int64 [prompt frames + T, K]
    target_at: np.ndarray  # int64 [T + 1]
    targets: np.ndarray  # int64 [T + 1, K]


def lay_out(config: ChromaConfig, speech: Speech) -> SpeechRows:
    """The rows of `speech`. Raises `ValueError` when a part is empty or they exceed the backbone's positions."""
    tokens = config.tokens
    prompt_ids = [tokens.text_start, *speech.prompt_ids, tokens.text_end]
    thoughts = [*speech.reply_ids, tokens.im_end]
    prompt_frames, reply_frames = len(speech.prompt_codes), len(speech.reply_codes)
    if prompt_frames == 0 or reply_frames == 0:
        raise ValueError(f"a speech needs frames: got {prompt_frames} in the prompt, {reply_frames} in the reply")

    live = len(prompt_ids) + prompt_frames + 1  # the first row after the zero row
    frames = np.arange(reply_frames + 1)
    brought = np.minimum(frames // FRAMES_PER_THOUGHT + 1, len(thoughts))  # thoughts up to and with each frame
    target_at = live - 1 + frames + 2 * brought
    fed = frames[::FRAMES_PER_THOUGHT][: len(thoughts)]
    thought_at = target_at[fed]
    takes_thought = np.isin(frames, fed)
    before_at = (target_at - np.where(takes_thought, 2, 0))[1:]  # A(frame before) of every frame but the first
    length = int(target_at[-1]) + 1
    if length > config.backbone.max_positions:
        raise ValueError(f"a speech of {length} rows: expected at most {config.backbone.max_positions}")
    eos = np.full((1, config.codebooks), config.codebook_eos)
    return SpeechRows(
        length=length,
        text_at=np.concatenate([np.arange(len(prompt_ids)), thought_at]),
        text_ids=np.array([*prompt_ids, *thoughts[: len(fed)]]),
        hidden_at=thought_at - 1,
        frame_at=np.concatenate([len(prompt_ids) + np.arange(prompt_frames), before_at]),
        frame_codes=np.concatenate([speech.prompt_codes, speech.reply_codes]),
        target_at=target_at,
        targets=np.concatenate([speech.reply_codes, eos]),
    )
