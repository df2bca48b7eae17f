"""The feed draws groups of conversations from the clips that it is given."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch

from tests.support.tiny_reasoner import TinyReasoner
from tests.support.tones import DOMAIN
from train.corpus.clip_index import Clip
from train.hearing.recordings import ClipReader
from train.reasoner.conversation_feed import ConversationFeed


def test_feed_gives_groups_of_the_requested_size_and_the_same_with_the_same_seed(
    tiny: TinyReasoner, clips: tuple[list[Clip], Path]
) -> None:
    listed, folder = clips
    trained = [clip for clip in listed if not clip.held_out]
    feed = ConversationFeed(
        tiny.config, tiny.tokenizer, DOMAIN, lambda: trained, ClipReader(folder), batch=10, group=4, seed=0
    )
    (step, other), (again, _) = list(itertools.islice(feed, 2)), list(itertools.islice(feed, 2))
    assert [len(group.ids) for group in step] == [4, 4, 2]
    assert [group.ids.shape[1] for group in step] == sorted(group.ids.shape[1] for group in step)
    for group in step:
        assert len(group.audio_at) == int(group.clips.embedding_counts.sum())
        assert len(group.clips.letters) == int(group.clips.letter_counts.sum())
    assert all(
        torch.equal(one.ids, two.ids) and torch.equal(one.clips.mel, two.clips.mel)
        for one, two in zip(step, again, strict=True)
    )
    assert not torch.equal(step[0].targets, other[0].targets)
