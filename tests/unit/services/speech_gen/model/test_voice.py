"""Voice prompts: layout, refusals, fingerprints and the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from services.common.errors import InvalidArgument, NotFound, OutOfRange
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.dtypes import to_raw
from services.speech_gen.model.generator import Generator
from services.speech_gen.model.voice import VoiceCache, VoicePrompt, enroll
from services.speech_gen.model.weights import load_generator
from tests.support.golden_speech import golden_config, single_rows
from tests.support.small_codebooks import SMALL_CODEBOOK, small_config, write_small

CODES = np.arange(24).reshape(3, 8)


def enrolled(generator: Generator, codes: np.ndarray, token_ids: Sequence[int]) -> VoicePrompt:
    return enroll(generator.backbone, golden_config().tokens, codes, token_ids)


def test_rows_are_start_text_end_audio_and_zero(generator: Generator) -> None:
    voice = enrolled(generator, CODES, [7, 9])
    table, tokens = generator.backbone.text_table, golden_config().tokens
    assert voice.rows[:4].equal(table[[tokens.text_start, 7, 9, tokens.text_end]])
    audio = generator.backbone.audio_table
    expected = torch.stack([audio[[2051 * k + int(code) for k, code in enumerate(frame)]].sum(0) for frame in CODES])
    torch.testing.assert_close(voice.rows[4:7], expected)
    assert voice.rows.shape == (8, 48)
    assert not voice.rows[7].any()


@pytest.mark.parametrize(
    ("codes", "token_ids", "message"),
    [
        (np.zeros((0, 8), dtype=np.int64), [1], r"expected \[T >= 1, 8\], got \[0, 8\]"),
        (np.zeros((3, 7), dtype=np.int64), [1], r"got \[3, 7\]"),
        (CODES + 2048, [1], "expected 0 to 2047, got 2048 to 2071"),
        (CODES - 1, [1], "got -1 to 22"),
        (CODES, [640], "expected token ids 0 to 639"),
        (CODES, [-1], "expected token ids 0 to 639"),
    ],
)
def test_bad_prompt_is_refused(codes: np.ndarray, token_ids: list[int], message: str, generator: Generator) -> None:
    with pytest.raises(InvalidArgument, match=message):
        enrolled(generator, codes, token_ids)


def test_prompt_longer_than_the_positions_is_refused(generator: Generator) -> None:
    assert len(enrolled(generator, np.zeros((2042, 8), dtype=np.int64), [1]).rows) == 2046
    with pytest.raises(OutOfRange, match="2047 rows leave no room for speech in 2048 positions"):
        enrolled(generator, np.zeros((2043, 8), dtype=np.int64), [1])


def test_a_voice_has_another_fingerprint_under_another_checkpoint(generator: Generator) -> None:
    tokens = golden_config().tokens
    one, other = (enroll(generator.backbone, tokens, CODES, [7, 9], checkpoint) for checkpoint in ("one", "other"))
    assert one.rows.equal(other.rows)
    assert one.fingerprint != other.fingerprint


def test_cache_forgets_the_least_recently_used_voice() -> None:
    cache = VoiceCache(2, 1_000)
    voices = [VoicePrompt(name, torch.zeros(1, 1)) for name in "abc"]
    cache.put(voices[0])
    cache.put(voices[1])
    assert cache.get("a") is voices[0]
    cache.put(voices[2])
    assert len(cache) == 2
    assert cache.get("c") is voices[2]
    with pytest.raises(NotFound, match="voice prompt b is not cached here: send its codes and transcript"):
        cache.get("b")


def test_cache_holds_no_more_bytes_than_it_may() -> None:
    cache = VoiceCache(10, 1_000)
    for name in "abc":
        cache.put(VoicePrompt(name, torch.zeros(100, 1)))
    assert (len(cache), cache.size_bytes) == (2, 800)
    with pytest.raises(NotFound):
        cache.get("a")
    cache.put(VoicePrompt("b", torch.zeros(50, 1)))
    assert (len(cache), cache.size_bytes) == (2, 600)
    cache.put(VoicePrompt("large", torch.zeros(251, 1)))
    assert (len(cache), cache.size_bytes) == (2, 600)
    with pytest.raises(NotFound):
        cache.get("large")


def test_a_prompt_from_its_embedding_is_equal_bit_for_bit_and_not_computed(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = enrolled(generator, CODES, [7, 9])
    embedding = to_raw(first.rows)
    other_dtype = np.zeros(embedding.shape, dtype=np.uint16)
    tokens = golden_config().tokens
    again = enroll(generator.backbone, tokens, CODES, [7, 9], embedding=other_dtype)
    assert again.rows.equal(first.rows)  # the backbone computes in float32, so it ignored the bfloat16 rows
    monkeypatch.delattr(type(generator.backbone), "text_rows")
    monkeypatch.delattr(type(generator.backbone), "audio_rows")
    handed_on = enroll(generator.backbone, tokens, CODES, [7, 9], embedding=embedding)
    assert handed_on.rows.equal(first.rows)
    assert handed_on.rows.dtype == first.rows.dtype
    assert handed_on.fingerprint == first.fingerprint


def test_golden_prompt_rows_equal_the_reference(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    assert len(row.request(generator).voice.rows) == len(row.token_ids) + len(row.codes) + 3


def test_codes_outside_the_checkpoints_codebooks_are_refused(tmp_path: Path) -> None:
    generator = load_generator(write_small(tmp_path), slots=1)
    tokens = ChromaConfig.from_dict(small_config()).tokens
    with pytest.raises(InvalidArgument, match="voice codes: expected 0 to 511, got 512 to 512"):
        enroll(generator.backbone, tokens, np.full((2, 8), SMALL_CODEBOOK), [1])


def test_a_forgotten_voice_is_not_kept_again() -> None:
    cache = VoiceCache(10, 1_000)
    voice = VoicePrompt("a", torch.ones(100, 1))
    cache.put(voice)
    assert cache.forget("a") is voice
    assert (len(cache), cache.size_bytes) == (0, 0)
    assert cache.forget("a") is None
    cache.put(voice)
    assert cache.is_forgotten("a")
    assert len(cache) == 0
    cache.put(VoicePrompt("b", torch.ones(100, 1)))
    assert not cache.is_forgotten("b")
    assert len(cache) == 1
    voice.erase()
    assert not voice.rows.any()
