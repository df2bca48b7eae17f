"""The codec's section of config.json: keys that it leaves out have the defaults of transformers' Mimi."""

from __future__ import annotations

from transformers import MimiConfig

from services.runtime.checkpoint.codec_config import CodecConfig, read_codec_config


def of_mimi(mimi: MimiConfig) -> dict[str, object]:
    """Our fields as transformers has them."""
    return {
        "sample_rate_hz": mimi.sampling_rate,
        "width": mimi.hidden_size,
        "codebooks": mimi.num_quantizers,
        "semantic_codebooks": mimi.num_semantic_quantizers,
        "codebook_size": mimi.codebook_size,
        "codebook_dim": mimi.codebook_dim,
        "quantizer_width": mimi.vector_quantization_hidden_dimension,
        "filters": mimi.num_filters,
        "residual_layers": mimi.num_residual_layers,
        "ratios": tuple(mimi.upsampling_ratios or ()),
        "kernel_size": mimi.kernel_size,
        "last_kernel_size": mimi.last_kernel_size,
        "residual_kernel_size": mimi.residual_kernel_size,
        "compress": mimi.compress,
        "conv_shortcut": mimi.use_conv_shortcut,
        "upsample_groups": mimi.upsample_groups,
        "layers": mimi.num_hidden_layers,
        "heads": mimi.num_attention_heads,
        "kv_heads": mimi.num_key_value_heads,
        "head_dim": mimi.head_dim,
        "ffn_width": mimi.intermediate_size,
        "attention_bias": mimi.attention_bias,
        "sliding_window": mimi.sliding_window,
    }


def ours(codec: CodecConfig) -> dict[str, object]:
    return {name: value for name, value in vars(codec).items() if name not in ("raw", "frame_rate_hz")}


def test_an_empty_section_is_mimi_as_transformers_builds_it() -> None:
    assert ours(read_codec_config({"codec_config": {}}, codebooks=8)) == of_mimi(MimiConfig())


def test_an_absent_section_is_mimi_with_the_codebooks_of_the_model() -> None:
    codec = read_codec_config({}, codebooks=8)
    assert ours(codec) == of_mimi(MimiConfig(num_quantizers=8))
    assert codec.frame_rate_hz == 12.5


def test_keys_of_the_section_beat_the_defaults() -> None:
    section = {"hidden_size": 192, "num_attention_heads": 4, "upsampling_ratios": [8, 5], "sliding_window": 16}
    codec = read_codec_config({"codec_config": section}, codebooks=8)
    assert (codec.width, codec.heads, codec.head_dim) == (192, 4, 48)
    assert (codec.ratios, codec.sliding_window) == ((8, 5), 16)
    assert codec.raw == section


def test_the_frame_rate_follows_from_the_strides_when_it_is_not_said() -> None:
    of_strides = read_codec_config({"codec_config": {"sampling_rate": 8000, "upsampling_ratios": [8, 5, 4]}}, 8)
    assert of_strides.frame_rate_hz == 25
    stated = {"sampling_rate": 8000, "upsampling_ratios": [8, 5, 4], "frame_rate": 12.5}
    assert read_codec_config({"codec_config": stated}, 8).frame_rate_hz == 12.5
