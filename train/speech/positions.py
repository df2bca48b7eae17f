"""The backbone's input rows of a known speech, in the order in which the service feeds them one by one.

    E(text_start) | E(prompt text) | E(text_end) | A(prompt frames) | zero row | then for each target frame
    [A(previous frame)] [h, E(token)]      the pair on even frames until the text ends, im_end included

The target after the last frame is the EOS frame. (docs/model.md, sections 2 to 4;
services/speech_gen/model/generator.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.wire.audio import FRAMES_PER_THOUGHT
from services.runtime.checkpoint.config import ChromaConfig


@dataclass(frozen=True)
class Speech:
    """A voice prompt and a reply in that voice: token ids without special tokens, codes int64 [T, K]."""

    prompt_ids: Sequence[int]
    prompt_codes: np.ndarray
    reply_ids: Sequence[int]
    reply_codes: np.ndarray


@dataclass(frozen=True)
class SpeechRows:
    """The indices of the rows of one speech by kind, from 0. The only row in none of the index arrays is the zero row.

    `targets` [T + 1, K] are the reply's frames and the EOS frame; `target_at` are the rows whose outputs predict them.
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
    """The rows of `speech`. Raises `ValueError` when prompt or reply has no frame, or with more rows than positions."""
    tokens = config.tokens
    prompt_ids = [tokens.text_start, *speech.prompt_ids, tokens.text_end]
    thoughts = [*speech.reply_ids, tokens.im_end]
    prompt_frames, reply_frames = len(speech.prompt_codes), len(speech.reply_codes)
    if prompt_frames == 0 or reply_frames == 0:
        raise ValueError(f"a speech needs frames: got {prompt_frames} in the prompt, {reply_frames} in the reply")

    live = len(prompt_ids) + prompt_frames + 1  # the first row after the zero row
    frames = np.arange(reply_frames + 1)
    thoughts_fed = np.minimum(
        frames // FRAMES_PER_THOUGHT + 1, len(thoughts)
    )  # number of thoughts fed for the frames up to this one
    target_at = live - 1 + frames + 2 * thoughts_fed
    fed = frames[::FRAMES_PER_THOUGHT][: len(thoughts)]
    thought_at = target_at[fed]
    takes_thought = np.isin(frames, fed)
    before_at = (target_at - np.where(takes_thought, 2, 0))[1:]  # A(previous frame) of every frame but the first
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
