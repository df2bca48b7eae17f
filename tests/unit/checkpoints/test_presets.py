"""Presets: configurations that every service can read, of the sizes that they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from checkpoints.presets import PRESETS, Preset, nano_config, preset_config, special_tokens
from checkpoints.tensor_names import expected_tensors
from checkpoints.tokenizer_files import vocabulary_for
from services.common.errors import InvalidArgument
from services.runtime.checkpoint.config import ChromaConfig, StackConfig

NANO_SPECIALS = special_tokens("tiny")
CONFIGS = [*map(preset_config, PRESETS), nano_config(NANO_SPECIALS, vocab_rows=700)]


@pytest.mark.parametrize("raw", CONFIGS)
def test_every_configuration_is_one_that_the_services_read(raw: dict[str, Any]) -> None:
    config = ChromaConfig.from_dict(raw)
    stacks: list[StackConfig] = [config.thinker.text, config.backbone, config.decoder]
    assert all(stack.heads % stack.kv_heads == 0 and stack.head_dim % 2 == 0 for stack in stacks)
    assert config.codebooks == config.codec.codebooks == 8
    assert config.codec.sample_rate_hz / config.codec.frame_rate_hz == raw["audio_frame_freq"] == 1920
    assert config.codec.codebook_size <= raw["codebook_pad_token_id"] < config.code_vocab_size


@pytest.mark.parametrize("preset", PRESETS)
def test_control_tokens_have_ids_of_their_own_inside_the_vocabulary(preset: Preset) -> None:
    config, specials = ChromaConfig.from_dict(preset_config(preset)), special_tokens(preset)
    words = len(vocabulary_for(specials, qwen_file=None).tokens)
    ids = sorted(specials.values())
    assert len(set(ids)) == len(ids)
    assert words <= ids[0]
    assert ids[-1] < config.thinker.vocab_size


@pytest.mark.parametrize("preset", PRESETS)
def test_the_ids_of_the_configuration_are_those_of_the_tokenizer(preset: Preset) -> None:
    tokens, specials = ChromaConfig.from_dict(preset_config(preset)).tokens, special_tokens(preset)
    assert (tokens.text_start, tokens.text_end) == (specials["<|text_start|>"], specials["<|text_end|>"])
    assert tokens.im_end == specials["<|im_end|>"]
    assert (tokens.audio, tokens.audio_start, tokens.audio_end) == (
        specials["<|AUDIO|>"],
        specials["<|audio_bos|>"],
        specials["<|audio_eos|>"],
    )


def test_control_tokens_can_be_changed_without_changing_the_preset() -> None:
    special_tokens("tiny").clear()
    assert special_tokens("tiny")["<|im_end|>"] == 608


@pytest.mark.parametrize(
    ("part", "at_least", "at_most"),
    [("thinker.", 28e6, 32e6), ("backbone.", 38e6, 42e6), ("decoder.", 13e6, 16e6), ("codec_model.", 1e6, 8e6)],
)
def test_mid_preset_has_the_stated_sizes(part: str, at_least: float, at_most: float) -> None:
    shapes = expected_tensors(ChromaConfig.from_dict(preset_config("mid")))
    tied = "decoder.audio_embedding."
    sizes = [torch.Size(shape).numel() for n, shape in shapes.items() if n.startswith(part) and not n.startswith(tied)]
    assert at_least < sum(sizes) < at_most


def test_nano_has_the_vocabulary_that_it_is_given() -> None:
    shapes = expected_tensors(ChromaConfig.from_dict(nano_config(NANO_SPECIALS, vocab_rows=700)))
    assert shapes["thinker.model.embed_tokens.weight"] == (700, 256)
    assert shapes["thinker.lm_head.weight"] == (700, 256)


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="expected one of tiny, mid, full, found 'huge'"):
        preset_config("huge")
