"""What the speech model is taught, and that it can learn it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from checkpoints.presets import preset_config
from services.runtime.checkpoint.config import ChromaConfig
from train.corpus.clip_index import Clip, append
from train.corpus.vocabulary import nano_tokenizer
from train.speech.examples import CodedRecording, Corruption, SpeechCorpus
from train.speech.model import SpeechModel
from train.speech.recordings import load_recordings
from train.speech.train import new_optimizer, train_step

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


def tiny() -> ChromaConfig:
    """The tiny preset with 64 codes in a codebook."""
    config = preset_config("tiny")
    config["backbone_config"]["vocab_size"] = config["decoder_config"]["vocab_size"] = 67
    config["codec_config"]["codebook_size"] = 64
    return ChromaConfig.from_dict(config)


def table() -> torch.Tensor:
    config = tiny()
    shape = (config.thinker.vocab_size, config.backbone.width)
    return 0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def corpus_of(
    replies: dict[str, list[CodedRecording]],
    strangers: dict[str, list[list[CodedRecording]]],
    *,
    corruption: Corruption,
) -> SpeechCorpus:
    return SpeechCorpus(tiny(), table(), replies, strangers, corruption=corruption, seed=0)


def recording(seed: int, *, frames: int = 8, weight: float = 1.0) -> CodedRecording:
    dice = np.random.default_rng(seed)
    codes = dice.integers(1, 50, (frames, 8))
    return CodedRecording(tuple(dice.integers(10, 90, 3).tolist()), (codes, codes + 1), weight)


def test_loss_falls_on_a_few_sentences() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = tiny()
    voices = {"low": [recording(1), recording(2)], "high": [recording(3), recording(4)]}
    corpus = corpus_of(voices, {}, corruption=Corruption())
    model = SpeechModel(config, table())
    optimizer = new_optimizer(model)
    for group in optimizer.param_groups:
        group["lr"] = 5e-3
    batches = corpus.batches(4)
    figures = [train_step(model, next(batches), optimizer) for _ in range(100)]
    first, last = figures[0], figures[-1]
    assert first["loss_0"] > 3.5
    assert last["loss_0"] < 1.0
    assert last["loss_depth"] < first["loss_depth"] - 3.0
    assert last["right_0"] > 0.8


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
def test_what_is_taught_is_never_spoilt_and_context_is(corruption: Corruption, least: float, most: float) -> None:
    voices = {"low": [recording(1, frames=40), recording(2, frames=40, weight=0.0)]}
    corpus = corpus_of(voices, {}, corruption=corruption)
    taught = voices["low"][0].variants[0]
    shares = []
    for _ in range(100):
        rows = corpus.draw()
        assert (rows.targets == np.concatenate([taught, np.zeros((1, 8))])).all()
        shares.append(float((rows.frame_codes[-40:] != taught).mean()))
    assert least <= np.mean(shares) <= most


def test_a_slip_stays_within_three_frames_and_goes_both_ways() -> None:
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


def test_strangers_come_in_as_prompts_only() -> None:
    foreign = recording(9, frames=30)
    corruption = replace(CLEAN, stranger_prompts=1.0)
    corpus = corpus_of({"low": [recording(1), recording(2)]}, {"low": [[foreign]]}, corruption=corruption)
    for _ in range(20):
        rows = corpus.draw()
        assert len(rows.targets) == 9
        assert tuple(rows.text_ids[1:4]) == foreign.token_ids


def test_strangers_are_heard_equally_often_and_answered_by_the_voice_that_each_is_nearest_to() -> None:
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


def test_recordings_are_sorted_by_what_they_are_for(tmp_path: Path) -> None:
    codes = {}
    texts = [("reply", "The museum opens at nine."), *(("prompt", f"This is prompt number {i}.") for i in range(4))]
    for name in ("amber", "dale", "kokoro_af_kore", "between"):
        for index, (role, text) in enumerate(texts):
            if name not in {"amber", "dale"} and role == "reply":
                continue
            path = f"replies/{name}/{index}.wav"
            clip = Clip(path, name, text, "reply" if role == "reply" else "prompt", None, 1.0, held_out=False)
            append(tmp_path / "audio" / "replies.jsonl", clip)
            codes[path] = np.full((13, 8), index, dtype=np.int16)
            codes[f"{path}@960"] = np.full((13, 8), 100 + index, dtype=np.int16)
    save_file(codes, tmp_path / "codes.safetensors")
    found = load_recordings(tmp_path, nano_tokenizer())
    assert {voice: len(clips) for voice, clips in found.replies.items()} == {"amber": 3, "dale": 3}
    assert {voice: len(clips) for voice, clips in found.reserved.items()} == {"amber": 2, "dale": 2}
    assert {voice: [len(clips) for clips in others] for voice, others in found.strangers.items()} == {"amber": [4]}
    first = found.replies["dale"][0]
    assert [int(codes[0, 0]) for codes in first.variants] == [0, 100]
    assert nano_tokenizer().decode(list(first.token_ids)) == "The museum opens at nine."


def test_no_codes_names_the_stage_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m train\.codec\.codes"):
        load_recordings(tmp_path, nano_tokenizer())
