"""The vocabularies and the files of a tokenizer that a new checkpoint gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from checkpoints.presets import special_tokens
from checkpoints.tokenizer_files import QWEN_RANKS, SMALL_VOCABULARY, vocabulary_for, write_tokenizer_files
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.rendered import encode_rendered

MIXED = "Hello, how are you today? Grüße, 日本語, 😀\n\n  12 tacos, it's fine."


def test_control_tokens_have_the_published_ids_although_the_vocabulary_is_small(tmp_path: Path) -> None:
    specials = special_tokens("full")
    vocabulary = vocabulary_for(specials, qwen_file=None)
    assert len(vocabulary.tokens) < QWEN_RANKS
    write_tokenizer_files(tmp_path, vocabulary, specials, mel_bins=128)
    tokenizer = Tokenizer((tmp_path / "tokenizer.json").read_text())
    assert encode_rendered(tokenizer, "<|im_start|><|text_end|>") == [151644, 151666]
    assert tokenizer.decode(tokenizer.encode(MIXED)) == MIXED


def test_qwen_ranks_become_its_vocabulary_and_merges(tmp_path: Path) -> None:
    ranks = ["YQ==", "Yg==", "Yw==", "YWI=", "YWJj"]  # a, b, c, ab, abc
    file = tmp_path / "qwen.tiktoken"
    file.write_text("".join(f"{token} {rank}\n" for rank, token in enumerate(ranks)))
    vocabulary = vocabulary_for(special_tokens("full"), qwen_file=file)
    assert vocabulary.tokens == ["a", "b", "c", "ab", "abc"]
    assert vocabulary.merges == [("a", "b"), ("ab", "c")]


def test_a_token_that_no_merge_makes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "qwen.tiktoken"
    file.write_text("YQ== 0\nYg== 1\nYw== 2\nYWJj 3\n")  # a, b, c, abc without ab or bc
    with pytest.raises(ValueError, match="is not made by merges of lower rank"):
        vocabulary_for(special_tokens("full"), qwen_file=file)


def test_small_control_tokens_take_the_small_vocabulary(tmp_path: Path) -> None:
    vocabulary = vocabulary_for(special_tokens("tiny"), qwen_file=tmp_path / "never_read.tiktoken")
    assert vocabulary.tokens == vocabulary_for(special_tokens("tiny"), qwen_file=None).tokens
    assert 256 < len(vocabulary.tokens) <= SMALL_VOCABULARY
    assert len(set(vocabulary.tokens)) == len(vocabulary.tokens)


def test_words_are_whole_words_with_the_space_before_them(tmp_path: Path) -> None:
    specials = special_tokens("tiny")
    vocabulary = vocabulary_for(specials, qwen_file=None)
    write_tokenizer_files(tmp_path, vocabulary, specials, mel_bins=128)
    tokenizer = Tokenizer((tmp_path / "tokenizer.json").read_text())
    words = [tokenizer.decode([token_id]) for token_id in vocabulary.words()]
    assert {" the", " and", " you"} <= set(words)
    assert all(word[0] == " " and " " not in word[1:] for word in words)


def test_four_files_are_written_with_the_mel_of_the_audio_tower(tmp_path: Path) -> None:
    specials = special_tokens("tiny")
    write_tokenizer_files(tmp_path, vocabulary_for(specials, qwen_file=None), specials, mel_bins=80)
    assert {file.name for file in tmp_path.iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "preprocessor_config.json",
    }
    features = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (features["feature_size"], features["sampling_rate"]) == (80, 16_000)
