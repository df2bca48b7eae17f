"""A batch of conversations has one length, and its indices are into the flattened ids."""

from __future__ import annotations

import torch

from train.hearing.clip_batch import LabelledClip
from train.reasoner.conversation_batch import LaidOut, join

AUDIO = 9


def test_indices_point_at_the_same_tokens_after_padding() -> None:
    clip = LabelledClip(torch.zeros(8, 128), torch.tensor([], dtype=torch.int64), 0)  # two embeddings
    spoken = LaidOut([1, AUDIO, AUDIO, 2, 3], [3, 4], [5, 6], [clip])
    typed = LaidOut([1, 4], [1], [7], [])
    batch = join([typed, spoken], audio_id=AUDIO, chunk_frames=200)
    assert batch.ids.tolist() == [[1, 4, 0, 0, 0], [1, AUDIO, AUDIO, 2, 3]]
    assert batch.audio_at.tolist() == [6, 7]
    assert int(batch.clips.embedding_counts.sum()) == 2
    assert batch.ids.flatten()[batch.target_at].tolist() == [4, 2, 3]
    assert batch.targets.tolist() == [7, 5, 6]
    assert batch.reply_of.tolist() == [0, 1, 1]
