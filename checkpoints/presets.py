"""The config.json of the checkpoints that are made here.

Three presets have random weights: `tiny` is for tests, `mid` for benchmarks, and `full` has the published dimensions.
The weights of `nano` are trained by train/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from services.common.errors import InvalidArgument

Preset = Literal["tiny", "mid", "full"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

_PUBLISHED_SPECIALS = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<|AUDIO|>": 151646,
    "<|audio_bos|>": 151647,
    "<|audio_eos|>": 151648,
    "<|box_end|>": 151649,
    "<|quad_start|>": 151650,
    "<|quad_end|>": 151651,
    "<|vision_bos|>": 151652,
    "<|vision_eos|>": 151653,
    "<|vision_pad|>": 151654,
    "<|IMAGE|>": 151655,
    "<|VIDEO|>": 151656,
    "<|text_start|>": 151665,
    "<|text_end|>": 151666,
}
_SMALL_SPECIALS = {
    "<|AUDIO|>": 600,
    "<|audio_bos|>": 601,
    "<|audio_eos|>": 602,
    "<|IMAGE|>": 603,
    "<|VIDEO|>": 604,
    "<|text_start|>": 605,
    "<|text_end|>": 606,
    "<|im_start|>": 607,
    "<|im_end|>": 608,
    "<|endoftext|>": 609,
}
_SMALL_VOCAB_ROWS = 640
_CODE_SPECIALS = 3
"""Rows of the code tables after those of the codec's codes. The last row is padding."""


def special_tokens(preset: Preset) -> dict[str, int]:
    """The text and the id of every control token."""
    return dict(_PUBLISHED_SPECIALS if preset == "full" else _SMALL_SPECIALS)


def nano_config(specials: Mapping[str, int], vocab_rows: int) -> dict[str, Any]:
    """The config.json of the trained checkpoint, for a vocabulary of `vocab_rows` ids with the control tokens.

    The codec attends to 16 positions (0.64 s) instead of 250, because it is trained on pieces of this length. A
    codebook has 512 codes instead of 2048: a small corpus uses all of them, and the heads have a quarter of the size.
    """
    return _config(
        specials,
        text=_text(vocab_rows, layers=4, width=256, heads=4, kv_heads=2, ffn=512, mrope=(8, 12, 12)),
        audio=_audio(layers=3, width=192, heads=4, ffn=512, output_width=256),
        backbone=_stack("chroma_backbone", layers=5, width=256, heads=4, kv_heads=2, head_dim=64, ffn=576),
        decoder=_stack("chroma_decoder", layers=2, width=192, heads=4, kv_heads=2, head_dim=48, ffn=512),
        codec=_codec(width=192, filters=24, layers=2, heads=4, ffn=384, codebook_dim=64, sliding_window=16),
        codebook_size=512,
    )


def preset_config(preset: str) -> dict[str, Any]:
    """The config.json of a preset. Raises `InvalidArgument` for an unknown name."""
    if preset == "tiny":
        return _config(
            _SMALL_SPECIALS,
            text=_text(_SMALL_VOCAB_ROWS, layers=3, width=48, heads=4, kv_heads=2, ffn=128, mrope=(2, 2, 2)),
            audio=_audio(layers=2, width=32, heads=2, ffn=64, output_width=48),
            backbone=_stack("chroma_backbone", layers=4, width=48, heads=4, kv_heads=2, head_dim=16, ffn=128),
            decoder=_stack("chroma_decoder", layers=2, width=24, heads=4, kv_heads=2, head_dim=8, ffn=96),
            codec=_codec(width=32, filters=4, layers=2, heads=2, ffn=64, codebook_dim=16),
        )
    if preset == "mid":
        return _config(
            _SMALL_SPECIALS,
            text=_text(_SMALL_VOCAB_ROWS, layers=8, width=512, heads=8, kv_heads=2, ffn=1664, mrope=(8, 12, 12)),
            audio=_audio(layers=4, width=256, heads=4, ffn=1024, output_width=512),
            backbone=_stack("chroma_backbone", layers=8, width=512, heads=8, kv_heads=2, head_dim=64, ffn=2048),
            decoder=_stack("chroma_decoder", layers=4, width=384, heads=6, kv_heads=2, head_dim=64, ffn=1536),
            codec=_codec(width=128, filters=16, layers=4, heads=4, ffn=512, codebook_dim=64),
        )
    if preset == "full":
        return _config(
            _PUBLISHED_SPECIALS,
            text=_text(151936, layers=36, width=2048, heads=16, kv_heads=2, ffn=11008, mrope=(16, 24, 24)),
            audio=_audio(layers=32, width=1280, heads=20, ffn=5120, output_width=2048),
            backbone=_stack("chroma_backbone", layers=16, width=2048, heads=32, kv_heads=8, head_dim=64, ffn=8192),
            decoder=_stack("chroma_decoder", layers=4, width=1024, heads=8, kv_heads=2, head_dim=128, ffn=8192),
            codec=_codec(width=512, filters=64, layers=8, heads=8, ffn=2048, codebook_dim=256),
        )
    raise InvalidArgument(f"preset: expected one of {', '.join(PRESETS)}, found {preset!r}")


def _config(
    specials: Mapping[str, int],
    *,
    text: dict[str, Any],
    audio: dict[str, Any],
    backbone: dict[str, Any],
    decoder: dict[str, Any],
    codec: dict[str, Any],
    codebook_size: int = 2048,
) -> dict[str, Any]:
    code_rows = codebook_size + _CODE_SPECIALS
    return {
        "architectures": ["ChromaForConditionalGeneration"],
        "model_type": "chroma",
        "audio_frame_freq": 1920,
        "audio_num_codebooks": 8,
        "codebook_eos_token_id": 0,
        "codebook_pad_token_id": code_rows - 1,
        "text_start_token_id": specials["<|text_start|>"],
        "text_end_token_id": specials["<|text_end|>"],
        "im_end_token_id": specials["<|im_end|>"],
        "thinker_config": {
            "model_type": "qwen2_5_omni_thinker",
            "audio_token_index": specials["<|AUDIO|>"],
            "audio_start_token_id": specials["<|audio_bos|>"],
            "audio_end_token_id": specials["<|audio_eos|>"],
            "image_token_index": specials["<|IMAGE|>"],
            "video_token_index": specials["<|VIDEO|>"],
            "pad_token_id": specials["<|endoftext|>"],
            "position_id_per_seconds": 25,
            "seconds_per_chunk": 2,
            "tie_word_embeddings": False,
            "text_config": text,
            "audio_config": audio,
        },
        "backbone_config": {**backbone, "vocab_size": code_rows, "max_position_embeddings": 2048},
        "decoder_config": {
            **decoder,
            "vocab_size": code_rows,
            "audio_embedding_dim": backbone["hidden_size"],
            "max_position_embeddings": 33,
        },
        "codec_config": {**codec, "codebook_size": codebook_size},
    }


def _text(
    vocab_size: int, *, layers: int, width: int, heads: int, kv_heads: int, ffn: int, mrope: tuple[int, int, int]
) -> dict[str, Any]:
    return {
        "model_type": "qwen2_5_omni_text",
        "vocab_size": vocab_size,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": ffn,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": list(mrope)},
        "use_sliding_window": False,
        "tie_word_embeddings": False,
    }


def _audio(*, layers: int, width: int, heads: int, ffn: int, output_width: int) -> dict[str, Any]:
    return {
        "model_type": "qwen2_5_omni_audio_encoder",
        "encoder_layers": layers,
        "d_model": width,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": ffn,
        "output_dim": output_width,
        "num_mel_bins": 128,
        "n_window": 100,
        "max_source_positions": 1500,
        "activation_function": "gelu",
    }


def _stack(
    model_type: str, *, layers: int, width: int, heads: int, kv_heads: int, head_dim: int, ffn: int
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "audio_num_codebooks": 8,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": ffn,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "attention_bias": False,
        "mlp_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    }


def _codec(
    *, width: int, filters: int, layers: int, heads: int, ffn: int, codebook_dim: int, sliding_window: int = 250
) -> dict[str, Any]:
    return {
        "model_type": "mimi",
        "sampling_rate": 24_000,
        "frame_rate": 12.5,
        "audio_channels": 1,
        "hidden_size": width,
        "num_filters": filters,
        "num_residual_layers": 1,
        "upsampling_ratios": [8, 6, 5, 4],
        "kernel_size": 7,
        "last_kernel_size": 3,
        "residual_kernel_size": 3,
        "dilation_growth_rate": 2,
        "use_causal_conv": True,
        "pad_mode": "constant",
        "compress": 2,
        "trim_right_ratio": 1.0,
        "codebook_dim": codebook_dim,
        "num_quantizers": 8,
        "num_semantic_quantizers": 1,
        "use_conv_shortcut": False,
        "vector_quantization_hidden_dimension": codebook_dim,
        "upsample_groups": width,
        "num_hidden_layers": layers,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": width // heads,
        "hidden_act": "gelu",
        "max_position_embeddings": 8000,
        "norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "sliding_window": sliding_window,
        "layer_scale_initial_scale": 0.5,
        "attention_bias": False,
    }
