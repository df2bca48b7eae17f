"""The codec's section of config.json, typed. Defaults are those of transformers' `MimiConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.common.errors import CheckpointError
from services.runtime.checkpoint.config_section import Section, integer, number, size, subsection


@dataclass(frozen=True)
class CodecConfig:
    """The dimensions of Mimi. `raw` is the section of config.json, from which transformers makes its `MimiConfig`."""

    sample_rate_hz: int
    frame_rate_hz: float
    width: int
    codebooks: int
    semantic_codebooks: int
    codebook_size: int
    codebook_dim: int
    quantizer_width: int
    filters: int
    residual_layers: int
    ratios: tuple[int, ...]
    kernel_size: int
    last_kernel_size: int
    residual_kernel_size: int
    compress: int
    conv_shortcut: bool
    upsample_groups: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int
    attention_bias: bool
    sliding_window: int
    raw: Section


def _ratios(ratios: Any) -> tuple[int, ...]:
    if not isinstance(ratios, list) or len(ratios) > 16:
        raise CheckpointError(f"config.json: upsampling_ratios: expected a list, found {repr(ratios)[:200]}")
    return tuple(size({"upsampling_ratios": ratio}, "upsampling_ratios", 0) for ratio in ratios)


def read_codec_config(config: Section, codebooks: int) -> CodecConfig:
    """Read the codec's section. Raises `CheckpointError`.

    Without a section the codec is Mimi with `codebooks` quantizers. A section that does not give their number has
    `MimiConfig`'s default, 32.
    """
    absent = {"num_quantizers": codebooks, "frame_rate": 12.5}
    raw = absent if config.get("codec_config") is None else subsection(config, "codec_config")
    ratios = _ratios(raw.get("upsampling_ratios") or [8, 6, 5, 4])
    sample_rate_hz = size(raw, "sampling_rate", 24_000)
    hop = 2
    for ratio in ratios:
        hop *= ratio
    width = size(raw, "hidden_size", 512)
    heads = size(raw, "num_attention_heads", 8)
    return CodecConfig(
        sample_rate_hz=sample_rate_hz,
        frame_rate_hz=number(raw, "frame_rate", number(raw, "_frame_rate", sample_rate_hz / hop)),
        width=width,
        codebooks=size(raw, "num_quantizers", 32),
        semantic_codebooks=integer(raw, "num_semantic_quantizers", 1),
        codebook_size=size(raw, "codebook_size", 2048),
        codebook_dim=size(raw, "codebook_dim", 256),
        quantizer_width=size(raw, "vector_quantization_hidden_dimension", 256),
        filters=size(raw, "num_filters", 64),
        residual_layers=size(raw, "num_residual_layers", 1),
        ratios=ratios,
        kernel_size=size(raw, "kernel_size", 7),
        last_kernel_size=size(raw, "last_kernel_size", 3),
        residual_kernel_size=size(raw, "residual_kernel_size", 3),
        compress=size(raw, "compress", 2),
        conv_shortcut=bool(raw.get("use_conv_shortcut", False)),
        upsample_groups=size(raw, "upsample_groups", 512),
        layers=size(raw, "num_hidden_layers", 8),
        heads=heads,
        kv_heads=size(raw, "num_key_value_heads", 8),
        head_dim=size(raw, "head_dim", width // heads),
        ffn_width=size(raw, "intermediate_size", 2048),
        attention_bias=bool(raw.get("attention_bias", False)),
        sliding_window=size(raw, "sliding_window", 250),
        raw=raw,
    )
