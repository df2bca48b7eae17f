"""The rows of a speech stand where the service feeds them."""

from __future__ import annotations

import numpy as np
import pytest

from train.pack.config import nano
from train.speech.positions import Speech, lay_out


def speech(*, prompt_frames: int = 3, reply_frames: int = 4, reply_ids: tuple[int, ...] = (7,)) -> Speech:
    codes = np.arange(8 * (prompt_frames + reply_frames)).reshape(-1, 8)
    return Speech([5, 6], codes[:prompt_frames], list(reply_ids), codes[prompt_frames:])


def test_every_row_but_the_zero_row_has_one_kind() -> None:
    rows = lay_out(nano(), speech())
    # 4 text rows, 3 prompt frames, the zero row; then [h, E] | A [h, E]... for two thoughts: the id and im_end
    named = np.concatenate([rows.text_at, rows.hidden_at, rows.frame_at])
    assert len(named) == len(set(named.tolist()))
    assert set(range(rows.length)) - set(named.tolist()) == {7}
    assert rows.text_at.tolist() == [0, 1, 2, 3, 9, 13]
    assert rows.hidden_at.tolist() == [8, 12]
    assert rows.frame_at.tolist() == [4, 5, 6, 10, 11, 14, 15]
    assert rows.target_at.tolist() == [9, 10, 13, 14, 15]


def test_the_last_target_is_the_eos_frame() -> None:
    rows, config = lay_out(nano(), speech()), nano()
    assert (rows.targets[:-1] == speech().reply_codes).all()
    assert (rows.targets[-1] == config.codebook_eos).all()


def test_an_empty_part_and_too_long_a_speech_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 in the prompt, 4 in the reply"):
        lay_out(nano(), speech(prompt_frames=0))
    with pytest.raises(ValueError, match=r"a speech of .* rows: expected at most"):
        lay_out(nano(), speech(reply_frames=nano().backbone.max_positions))
