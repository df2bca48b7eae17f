"""Training examples of the speech model: targets, prompts and corruption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.tiny_speech_corpus import converted, corpus_of, recording, table, tiny
from train.speech.examples import MIN_PROMPT_FRAMES, CodedRecording, Corruption

CLEAN = Corruption(
    max_random_codes=0.0,
    heavily_corrupted=0.0,
    time_shifted=0.0,
    max_random_prompt_codes=0.0,
    cut_prompts=0.0,
    foreign_texts=0.0,
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
        rows = corpus.draw().rows
        assert (rows.targets == np.concatenate([taught, np.zeros((1, 8))])).all()
        shares.append(float((rows.frame_codes[-40:] != taught).mean()))
    assert least <= np.mean(shares) <= most


def test_a_time_shift_is_at_most_three_frames_in_both_directions() -> None:
    frames = np.repeat(np.arange(1, 41)[:, None], 8, axis=1)
    voices = {"low": [CodedRecording((1, 2), (frames,), 1.0), recording(2, weight=0.0)]}
    corpus = corpus_of(voices, {}, corruption=replace(CLEAN, time_shifted=1.0))
    distances = np.stack([corpus.draw().rows.frame_codes[-40:, 0] - frames[:, 0] for _ in range(50)])
    assert set(np.unique(distances)) == set(range(-3, 4))


def test_the_prompt_is_another_clip_in_any_variant() -> None:
    clips = [recording(seed, frames=8 + seed) for seed in range(4)]
    corpus = corpus_of({"low": clips}, {}, corruption=CLEAN)
    seen = set()
    for _ in range(200):
        rows = corpus.draw().rows
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
        rows = corpus.draw().rows
        text_end = int(np.flatnonzero(rows.text_ids == tiny().tokens.text_end)[0])
        told = rows.text_ids[1:text_end].tolist()
        assert {tuple(told[i : i + 3]) for i in range(0, len(told), 3)} <= texts
        counts.add(len(told) // 3)
    assert counts == set(range(2, 7))


def test_a_speaker_says_what_a_reply_voice_says_after_a_prompt_of_its_own_with_other_words() -> None:
    replies = [recording(1), recording(2)]
    said_by_both = CodedRecording(replies[0].token_ids, (np.full((9, 8), 60),), 1.0)
    speakers = {
        name: [said_by_both, *(recording(10 * number + clip, frames=8 + number) for clip in range(2))]
        for number, name in enumerate(("speaker one", "speaker two", "speaker three"), 1)
    }
    corruption = replace(CLEAN, joined_prompts=0.5)
    corpus = corpus_of({"low": replies}, speakers, corruption=corruption, cloned=1.0)
    texts = {name: {clip.token_ids for clip in clips} for name, clips in speakers.items()}
    seen = set()
    for _ in range(100):
        drawn = corpus.draw()
        rows = drawn.rows
        text_end = int(np.flatnonzero(rows.text_ids == tiny().tokens.text_end)[0])
        told = rows.text_ids[1:text_end].tolist()
        prompts = {tuple(told[i : i + 3]) for i in range(0, len(told), 3)}
        replied = tuple(rows.text_ids[text_end + 1 : text_end + 4].tolist())
        assert prompts <= texts[drawn.voice]
        assert replied in {clip.token_ids for clip in replies}
        assert replied not in prompts
        assert (rows.targets[:-1] == converted(drawn.voice, replied)).all()
        seen.add(drawn.voice)
    assert seen == speakers.keys()


def test_reply_voices_keep_their_share_and_speakers_have_theirs_by_the_root_of_their_recordings() -> None:
    speakers = {
        "few": [recording(number) for number in range(10, 12)],
        "many": [recording(number) for number in range(20, 38)],
    }
    corpus = corpus_of({"low": [recording(1), recording(2)]}, speakers, corruption=CLEAN, cloned=0.6)
    voices = [corpus.draw().voice for _ in range(600)]
    assert voices.count("low") / 600 == pytest.approx(0.4, abs=0.07)
    assert voices.count("few") / 600 == pytest.approx(0.15, abs=0.05)


def test_prompts_have_two_to_fifteen_seconds() -> None:
    clips = [recording(number, frames=60) for number in range(8)]
    corpus = corpus_of({"low": clips}, {}, corruption=replace(CLEAN, joined_prompts=0.5))
    prompts = [len(rows.frame_codes) - len(rows.targets) + 1 for rows in (corpus.draw().rows for _ in range(300))]
    assert min(prompts) >= MIN_PROMPT_FRAMES
    assert 150 < max(prompts) <= 190
    assert any(25 <= frames < 60 for frames in prompts)


def test_a_voice_with_one_recording_is_refused() -> None:
    two = [recording(1), recording(2)]
    for replies, speakers in (({"low": two[:1]}, {}), ({"low": two}, {"speaker": two[:1]}), ({}, {"speaker": two})):
        with pytest.raises(ValueError, match="two recordings"):
            corpus_of(replies, speakers, corruption=CLEAN)


@pytest.mark.parametrize("with_words", [0.0, 1.0])
def test_thinker_states_have_the_size_of_normed_ones(with_words: float) -> None:
    corruption = replace(CLEAN, states_with_text=with_words)
    batch = next(corpus_of({"low": [recording(1), recording(2)]}, {}, corruption=corruption).batches(8))
    hidden = batch.hidden
    torch.testing.assert_close(hidden.square().mean(1).sqrt(), torch.ones(len(hidden)), rtol=1e-4, atol=1e-4)
    words = torch.nn.functional.normalize(table(), dim=1)
    likeliest = (torch.nn.functional.normalize(hidden, dim=1) @ words.T).max(dim=1).values
    assert (likeliest.max().item() > 0.9) == bool(with_words)
