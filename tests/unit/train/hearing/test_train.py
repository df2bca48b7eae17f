"""The audio tower learns letters and subjects from tones that stand for words."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.support.tiny_reasoner import TinyReasoner
from tests.support.tones import DOMAIN, HZ, SUBJECTS
from train.audio.augment import AugmentationSettings
from train.corpus.clip_index import Clip
from train.hearing.auxiliary_tasks import AuxiliaryHeads
from train.hearing.clip_feed import ClipFeed
from train.hearing.recordings import ClipReader
from train.hearing.train import TOWER, hearing_artefact, load_hearing, train_hearing
from train.optim.training_loop import Budget, load_artefact, save_artefact

UNCHANGED = AugmentationSettings(
    pause_s=(0.0, 0.1), level_db=(-20.0, -14.0), noise_share=0.0, room_share=0.0, microphone_share=0.0
)


@pytest.fixture(scope="module")
def feed(tiny: TinyReasoner, tmp_path_factory: pytest.TempPathFactory) -> ClipFeed:
    folder = tmp_path_factory.mktemp("audio")
    clips = [Clip(f"{name}.wav", "voice", f"{name} tone", "question", name, 0.5, False) for name in HZ]
    for clip in clips:
        sf.write(
            folder / clip.path, 0.2 * np.sin(np.arange(8_000) * 2 * np.pi * HZ[clip.intent or ""] / 16_000), 16_000
        )
    return ClipFeed(tiny.config, DOMAIN, lambda: clips, ClipReader(folder), batch=6, seed=0, augmentations=[UNCHANGED])


@pytest.mark.slow
def test_the_tower_alone_learns_subjects_and_letters(tiny: TinyReasoner, feed: ClipFeed) -> None:
    torch.manual_seed(0)
    model, heads = tiny.new_model(), AuxiliaryHeads(48, len(SUBJECTS))
    before = {name: tensor.clone() for name, tensor in model.artefact().items()}
    budget = Budget(minutes=5.0, peak_rate=4e-3, warm_up_steps=10, max_steps=60)
    losses = train_hearing(model, heads, feed, budget)
    assert losses[-1] < 0.7 * losses[0]
    changed = {name for name, tensor in model.artefact().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith(TOWER) for name in changed)
    right: list[bool] = []
    for clips in itertools.islice(feed, 60, 66):
        with torch.no_grad():
            named = heads.subject(model.audio_embeddings(clips), clips.embedding_counts).argmax(dim=-1)
        right += (named == clips.subjects).tolist()
    assert sum(right) / len(right) > 0.8


def test_training_continues_from_the_artefact(tiny: TinyReasoner, tmp_path: Path) -> None:
    model, heads = tiny.new_model(), AuxiliaryHeads(48, 5)
    save_artefact(tmp_path / "hearing.safetensors", hearing_artefact(model, heads))
    other, other_heads = tiny.new_model(), AuxiliaryHeads(48, 5)
    load_hearing(load_artefact(tmp_path / "hearing.safetensors"), other, other_heads)
    for name, tensor in hearing_artefact(other, other_heads).items():
        torch.testing.assert_close(tensor, hearing_artefact(model, heads)[name], atol=1e-3, rtol=1e-3)


def test_an_artefact_without_heads_leaves_the_heads_unchanged(tiny: TinyReasoner) -> None:
    trained, model, heads = tiny.new_model(), tiny.new_model(), AuxiliaryHeads(48, 5)
    before = {name: tensor.clone() for name, tensor in heads.state_dict().items()}
    stored = {name: tensor for name, tensor in trained.artefact().items() if name.startswith(TOWER)}
    load_hearing(stored, model, heads)
    assert all(torch.equal(model.artefact()[name], tensor) for name, tensor in stored.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in heads.state_dict().items())
