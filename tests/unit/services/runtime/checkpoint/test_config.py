"""config.json in its spellings, sparse and wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from services.common.errors import CheckpointError
from services.common.sampling import SamplingParams
from services.runtime.checkpoint.config import ChromaConfig, RopeConfig, read_generation_config
from services.runtime.checkpoint.config_section import Section
from tests.support.paths import PUBLIC_GOLDEN
from tests.support.small_codebooks import small_config

GOLDEN = PUBLIC_GOLDEN / "checkpoint"
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}
PUBLISHED_TEXT = {
    "hidden_size": 2048,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "intermediate_size": 11008,
    "vocab_size": 151936,
}


@pytest.fixture
def raw() -> dict[str, Any]:
    return json.loads((GOLDEN / "config.json").read_text())


def test_dimensions_and_ids_come_from_the_file(raw: dict[str, Any]) -> None:
    config = ChromaConfig.from_dict(raw)
    assert (config.thinker.text.layers, config.thinker.text.head_dim, config.thinker.vocab_size) == (3, 12, 640)
    assert config.thinker.text.qkv_bias
    assert (config.backbone.layers, config.backbone.head_dim, config.backbone.max_positions) == (4, 16, 2048)
    assert (config.decoder.width, config.audio_width, config.code_vocab_size) == (24, 48, 2051)
    assert (config.tokens.audio, config.tokens.audio_end, config.tokens.text_start) == (600, 602, 605)
    assert (config.codec.width, config.codec.codebooks, config.codec.frame_rate_hz) == (32, 8, 12.5)


def test_a_sparse_file_means_the_published_model() -> None:
    sparse = {"thinker_config": {"text_config": PUBLISHED_TEXT, "audio_config": {"output_dim": 2048}}}
    config = ChromaConfig.from_dict(sparse)
    assert (config.backbone.layers, config.backbone.heads, config.backbone.kv_heads) == (16, 32, 8)
    assert (config.decoder.layers, config.decoder.width, config.decoder.head_dim) == (4, 1024, 128)
    assert (config.thinker.audio.layers, config.thinker.audio.width) == (32, 1280)
    assert config.tokens.text_start == 151665
    assert config.tokens.im_end == 151645
    assert (config.codec.codebooks, config.codec.layers) == (8, 8)
    assert config.thinker.text.rope.theta == 1e6
    assert config.backbone.rope.theta == 5e5


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_parameters": {**LLAMA3, "rope_theta": 1234.0}},
        {"rope_scaling": LLAMA3, "rope_theta": 1234.0},
        {"rope_scaling": {**LLAMA3, "rope_theta": 1234.0}},
        {"rope_scaling": {"type" if key == "rope_type" else key: LLAMA3[key] for key in LLAMA3}, "rope_theta": 1234},
    ],
)
def test_llama3_rope_reads_the_same_in_every_spelling(raw: dict[str, Any], spelling: dict[str, Any]) -> None:
    del raw["backbone_config"]["rope_parameters"]
    raw["backbone_config"].update(spelling)
    assert ChromaConfig.from_dict(raw).backbone.rope == RopeConfig(1234.0, "llama3", 8.0, 1.0, 4.0, 1024)


def test_multi_axis_rope_of_the_thinker_is_plain_rope(raw: dict[str, Any]) -> None:
    text = raw["thinker_config"]["text_config"]
    del text["rope_parameters"]
    text.update(rope_scaling={"type": "mrope", "mrope_section": [2, 2, 2]}, rope_theta=1e6)
    assert ChromaConfig.from_dict(raw).thinker.text.rope == RopeConfig(1e6)


def test_frame_rate_may_be_spelt_either_way_or_left_out(raw: dict[str, Any]) -> None:
    spelt = copy.deepcopy(raw)
    spelt["codec_config"]["frame_rate"] = spelt["codec_config"].pop("_frame_rate")
    left_out = copy.deepcopy(raw)
    del left_out["codec_config"]["_frame_rate"]
    rates = {ChromaConfig.from_dict(config).codec.frame_rate_hz for config in (raw, spelt, left_out)}
    assert rates == {12.5}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("backbone_config", "hidden_size"), 64, "thinker_config.text_config.hidden_size: expected 64, found 48"),
        (("decoder_config", "vocab_size"), 2000, "decoder_config.vocab_size: expected 2051, found 2000"),
        (("backbone_config", "rope_parameters"), {"rope_type": "yarn"}, "found 'yarn'"),
        (("backbone_config", "rope_parameters"), {"rope_type": "llama3"}, "lacks factor"),
        (("backbone_config", "attention_bias"), True, "backbone_config.attention_bias: expected false"),
        (("backbone_config", "hidden_act"), "gelu", "backbone_config.hidden_act: expected 'silu'"),
        (("backbone_config", "num_hidden_layers"), "four", "num_hidden_layers: expected a number, found 'four'"),
        (("codec_config", "num_quantizers"), 4, "expected at least 8"),
        (("thinker_config",), [], "thinker_config: expected an object"),
        (("codec_config",), [], "codec_config: expected an object"),
    ],
)
def test_what_cannot_be_served_is_named(raw: dict[str, Any], path: tuple[str, ...], value: Any, message: str) -> None:
    section = raw
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(CheckpointError, match=message.replace("[", r"\[")):
        ChromaConfig.from_dict(raw)


@pytest.mark.parametrize(
    ("generation_config", "expected"),
    [
        ({}, SamplingParams(temperature=1.0, top_k=50)),
        ({"do_sample": True, "temperature": 0.7, "top_k": 20}, SamplingParams(temperature=0.7, top_k=20)),
        ({"do_sample": False}, SamplingParams(greedy=True)),
        ({"do_sample": None, "temperature": None, "top_k": None}, SamplingParams()),
        ({"top_p": 0.5}, SamplingParams(top_p=1.0)),
    ],
)
def test_generation_config_sets_how_codes_are_drawn(generation_config: Section, expected: SamplingParams) -> None:
    assert read_generation_config(generation_config) == expected


@pytest.mark.parametrize("generation_config", [{"top_k": 0}, {"temperature": 0.0}])
def test_a_generation_config_out_of_range_is_refused(generation_config: Section) -> None:
    with pytest.raises(CheckpointError, match="generation_config"):
        read_generation_config(generation_config)


def test_heads_of_fewer_rows_than_codes_are_refused() -> None:
    config = small_config()
    config["codec_config"]["codebook_size"] = 2048
    with pytest.raises(CheckpointError, match=r"vocab_size: expected at least 2048 .*found 515"):
        ChromaConfig.from_dict(config)
