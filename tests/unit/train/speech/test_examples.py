"""Training examples of the speech model: targets, prompts and corruption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.tiny_speech_corpus import corpus_of, recording, table, tiny
from train.speech.examples import CodedRecording, Corruption

CLEAN = Corruption(
    max_random_codes=0.0,
    heavily_corrupted=0.0,
    time_shifted=0.0,
    max_random_prompt_codes=0.0,
    cut_prompts=0.0,
    foreign_texts=0.0,
    stranger_prompts=0.0,
    joined_prompts=0.0,
    states_with_text=0.0,
)


@pytest.mark.parametrize(
    ("corruption", "least", "most"),
    [
        (CLEAN, 0.0, 0.0),
        (replace(CLEAN, max_random_codes=0.3), 0.1, 0.2),
        (replace(CLEAN, max_random_codes=0.3, heavily_corrupted=1.0), 0.55, 0.75),
        (replace(CLEAN, time_shifted=1.0), 0.5, 0.85),
        (Corruption(), 0.3, 0.6),
    ],
)
def test_context_is_corrupted_and_targets_never_are(corruption: Corruption, least: float, most: float) -> None:
    voices = {"low": [recording(1, frames=40), recording(2, frames=40, weight=0.0)]}
    corpus = corpus_of(voices, {}, corruption=corruption)
    taught = voices["low"][0].variants[0]
    shares = []
    for _ in range(100):
        rows = corpus.draw()
        assert (rows.targets == np.concatenate([taught, np.zeros((1, 8))])).all()
        shares.append(float((rows.frame_codes[-40:] != taught).mean()))
    assert least <= np.mean(shares) <= most


def test_a_time_shift_is_at_most_three_frames_in_both_directions() -> None:
    frames = np.repeat(np.arange(1, 41)[:, None], 8, axis=1)
    voices = {"low": [CodedRecording((1, 2), (frames,), 1.0), recording(2, weight=0.0)]}
    corpus = corpus_of(voices, {}, corruption=replace(CLEAN, time_shifted=1.0))
    distances = np.stack([corpus.draw().frame_codes[-40:, 0] - frames[:, 0] for _ in range(50)])
    assert set(np.unique(distances)) == set(range(-3, 4))


def test_the_prompt_is_another_clip_in_any_variant() -> None:
    clips = [recording(seed, frames=8 + seed) for seed in range(4)]
    corpus = corpus_of({"low": clips}, {}, corruption=CLEAN)
    seen = set()
    for _ in range(200):
        rows = corpus.draw()
        target = next(i for i, clip in enumerate(clips) if len(clip.variants[0]) == len(rows.targets) - 1)
        prompt = rows.frame_codes[: len(rows.frame_codes) - len(rows.targets) + 1]
        found = {
            (i, j)
            for i, clip in enumerate(clips)
            for j, codes in enumerate(clip.variants)
            if any((codes[k : k + len(prompt)] == prompt).all() for k in range(len(codes) - len(prompt) + 1))
        }
        assert found
        assert all(i != target for i, _ in found)
        seen |= found
    assert len(seen) == 8


def test_joined_prompts_are_clips_and_their_texts_in_a_row() -> None:
    clips = [recording(seed) for seed in range(3)]
    corpus = corpus_of({"low": clips}, {}, corruption=replace(CLEAN, joined_prompts=1.0))
    texts = {clip.token_ids for clip in clips}
    counts = set()
    for _ in range(100):
        rows = corpus.draw()
        text_end = int(np.flatnonzero(rows.text_ids == tiny().tokens.text_end)[0])
        told = rows.text_ids[1:text_end].tolist()
        assert {tuple(told[i : i + 3]) for i in range(0, len(told), 3)} <= texts
        counts.add(len(told) // 3)
    assert counts == set(range(2, 7))


def test_recordings_of_strangers_are_prompts_only() -> None:
    foreign = recording(9, frames=30)
    corruption = replace(CLEAN, stranger_prompts=1.0)
    corpus = corpus_of({"low": [recording(1), recording(2)]}, {"low": [[foreign]]}, corruption=corruption)
    for _ in range(20):
        rows = corpus.draw()
        assert len(rows.targets) == 9
        assert tuple(rows.text_ids[1:4]) == foreign.token_ids


def test_strangers_are_drawn_equally_often_and_answered_in_their_nearest_voice() -> None:
    voices = {"low": [recording(1), recording(2)], "high": [recording(3, frames=9), recording(4, frames=9)]}
    strangers = {"low": [[recording(10)]], "high": [[recording(seed)] for seed in (11, 12, 13)]}
    corpus = corpus_of(voices, strangers, corruption=replace(CLEAN, stranger_prompts=1.0))
    of_low = recording(10).token_ids
    answers = []
    for _ in range(400):
        rows = corpus.draw()
        answers.append(len(rows.targets) == 9)  # eight frames and the last
        assert answers[-1] == (tuple(rows.text_ids[1:4]) == of_low)
    assert 0.18 < np.mean(answers) < 0.32


def test_a_joined_prompt_is_of_one_stranger() -> None:
    strangers = [[recording(10 * voice + number) for number in range(3)] for voice in range(1, 4)]
    corruption = replace(CLEAN, stranger_prompts=1.0, joined_prompts=1.0)
    corpus = corpus_of({"low": [recording(1), recording(2)]}, {"low": strangers}, corruption=corruption)
    speakers = {clip.token_ids: number for number, clips in enumerate(strangers) for clip in clips}
    heard = set()
    for _ in range(50):
        rows = corpus.draw()
        text_end = int(np.flatnonzero(rows.text_ids == tiny().tokens.text_end)[0])
        told = rows.text_ids[1:text_end].tolist()
        of_one = {speakers[tuple(told[i : i + 3])] for i in range(0, len(told), 3)}
        assert len(of_one) == 1
        heard |= of_one
    assert heard == {0, 1, 2}


def test_a_voice_with_one_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="two recordings"):
        corpus_of({"low": [recording(1)]}, {}, corruption=CLEAN)


@pytest.mark.parametrize("with_words", [0.0, 1.0])
def test_thinker_states_have_the_size_of_normed_ones(with_words: float) -> None:
    corruption = replace(CLEAN, states_with_text=with_words)
    batch = next(corpus_of({"low": [recording(1), recording(2)]}, {}, corruption=corruption).batches(8))
    hidden = batch.hidden
    torch.testing.assert_close(hidden.square().mean(1).sqrt(), torch.ones(len(hidden)), rtol=1e-4, atol=1e-4)
    words = torch.nn.functional.normalize(table(), dim=1)
    likeliest = (torch.nn.functional.normalize(hidden, dim=1) @ words.T).max(dim=1).values
    assert (likeliest.max().item() > 0.9) == bool(with_words)
