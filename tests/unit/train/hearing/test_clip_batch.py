"""A batch holds the chunks of all its clips, and knows the embeddings and letters of each."""

from __future__ import annotations

import torch

from train.hearing.auxiliary_tasks import spell
from train.hearing.clip_batch import LabelledClip, join_clips
from train.hearing.model import chunks_of


def labelled(frames: int, text: str, subject: int) -> LabelledClip:
    return LabelledClip(torch.ones(frames, 128), spell(text), subject)


def test_clips_become_chunks_with_counts_for_each_clip() -> None:
    batch = join_clips([labelled(250, "ab", 3), labelled(40, "", 1)], 200)
    assert batch.mel.shape == (3, 200, 128)
    assert batch.mel_frames.tolist() == [200, 50, 40]
    assert batch.embedding_counts.tolist() == [50 + 12, 10]
    assert torch.equal(batch.letters, spell("ab"))
    assert batch.letter_counts.tolist() == [2, 0]
    assert batch.subjects.tolist() == [3, 1]
    assert not batch.mel[1, 50:].any()


def test_a_batch_may_have_no_clip() -> None:
    batch = join_clips([], 200)
    assert len(batch) == 0
    assert batch.mel.shape[0] == 0


def test_a_last_chunk_that_is_too_short_for_an_embedding_is_left_out() -> None:
    assert [chunk.shape[0] for chunk in chunks_of(torch.zeros(202, 128), 200)] == [200]
