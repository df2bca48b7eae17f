"""One reply of the plain loop, against the reference's golden data."""

from __future__ import annotations

import pytest
import torch

from reference.thinker import pieces_of, think
from services.common.errors import InvalidArgument
from services.reasoner.model.parts import AudioPart
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.golden_cases import CASES, CHECKPOINT, Row, golden_rows


@pytest.fixture(scope="module")
def golden_thinker() -> Thinker:
    return load_thinker(Checkpoint.open(CHECKPOINT), dtype=torch.float32)


ROWS = [row for case in CASES for row in golden_rows(case)]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_thoughts_equal_the_reference(row: Row, golden_thinker: Thinker) -> None:
    reply = think(golden_thinker, row.input_ids, row.clips, len(row.token_ids))
    assert reply.token_ids == row.token_ids
    torch.testing.assert_close(reply.hidden, row.hidden, atol=1e-4, rtol=0)
    torch.testing.assert_close(reply.audio_embeddings, row.audio_embeddings, atol=1e-4, rtol=0)


def test_im_end_is_the_last_thought(golden_thinker: Thinker) -> None:
    (row,) = golden_rows("thinker_eos_early")
    im_end = golden_thinker.tokens.im_end
    assert im_end in row.token_ids
    reply = think(golden_thinker, row.input_ids, row.clips, 100)
    assert reply.token_ids == row.token_ids
    assert reply.token_ids.index(im_end) == len(reply.token_ids) - 1


def test_placeholders_must_fit_the_clips() -> None:
    clip = torch.full((9_000,), 0.1)  # 57 mel frames, 14 rows
    assert pieces_of([1, *[600] * 14, 2], [clip], 600) == [[1], AudioPart(clip), [2]]
    with pytest.raises(InvalidArgument, match="takes 14 placeholders, found 13"):
        pieces_of([1, *[600] * 13, 2], [clip], 600)
    with pytest.raises(InvalidArgument, match="more than 0 clips"):
        pieces_of([1, *[600] * 14, 2], [], 600)
    with pytest.raises(InvalidArgument, match="2 clips, but the prompt has placeholders for 1"):
        pieces_of([1, *[600] * 14, 2], [clip, clip], 600)
