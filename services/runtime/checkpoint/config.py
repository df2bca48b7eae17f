"""The typed content of config.json: every dimension and id that the models use. (docs/model.md, sections 1, 8)

A key that config.json leaves out has a default:

- thinker and codec: the default of the class from which transformers builds the section (`Qwen2_5OmniTextConfig`,
  `Qwen2_5OmniAudioEncoderConfig`, `MimiConfig`), because transformers leaves out values that equal it;
- backbone, decoder and ids: the value of the published model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.common.errors import CheckpointError, InvalidArgument
from services.common.sampling import SamplingParams
from services.runtime.checkpoint.codec_config import CodecConfig, read_codec_config
from services.runtime.checkpoint.config_section import Section, integer, number, size, subsection


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embeddings of one stack. The last four fields are used only when `kind` is "llama3"."""

    theta: float
    kind: Literal["default", "llama3"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


@dataclass(frozen=True)
class StackConfig:
    """One decoder-only stack of Llama layers: the thinker's text model, the backbone or the depth decoder."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int
    norm_eps: float
    qkv_bias: bool
    rope: RopeConfig
    max_positions: int


@dataclass(frozen=True)
class AudioTowerConfig:
    """The thinker's audio encoder. It encodes chunks of `2 * n_window` mel frames. (docs/model.md, section 7)"""

    layers: int
    width: int
    heads: int
    ffn_width: int
    mel_bins: int
    n_window: int
    output_width: int


@dataclass(frozen=True)
class ThinkerConfig:
    """The reasoner's model: its text stack, its vocabulary and its audio tower."""

    text: StackConfig
    vocab_size: int
    audio: AudioTowerConfig


@dataclass(frozen=True)
class TokenIds:
    """Ids of control tokens. They differ between checkpoints. The tokenizer knows the other control tokens."""

    text_start: int
    text_end: int
    im_end: int
    audio: int
    audio_start: int
    audio_end: int


@dataclass(frozen=True)
class ChromaConfig:
    """All values of config.json that the services use.

    Attributes:
        code_vocab_size: the codes of one codebook and the special codes (2051). The audio table has `codebooks` times
            as many rows.
        audio_width: the width of the audio table. It is the backbone's width and the input of `decoder.projection`.
        codebook_eos: the code that ends speech.
    """

    tokens: TokenIds
    thinker: ThinkerConfig
    backbone: StackConfig
    decoder: StackConfig
    codec: CodecConfig
    codebooks: int
    code_vocab_size: int
    audio_width: int
    codebook_eos: int

    @classmethod
    def from_dict(cls, config: Section) -> ChromaConfig:
        """Read a raw config.json. Raises `CheckpointError` naming the section and key that cannot be served."""
        thinker = subsection(config, "thinker_config")
        text = subsection(thinker, "text_config")
        backbone = subsection(config, "backbone_config")
        decoder = subsection(config, "decoder_config")
        codebooks = size(config, "audio_num_codebooks", 8)
        result = cls(
            tokens=TokenIds(
                text_start=integer(config, "text_start_token_id", 151665),
                text_end=integer(config, "text_end_token_id", 151666),
                im_end=integer(config, "im_end_token_id", 151645),
                audio=integer(thinker, "audio_token_index", integer(thinker, "audio_token_id", 151646)),
                audio_start=integer(thinker, "audio_start_token_id", 151647),
                audio_end=integer(thinker, "audio_end_token_id", 151648),
            ),
            thinker=ThinkerConfig(
                text=_thinker_text(text),
                vocab_size=size(text, "vocab_size", 152064),
                audio=_audio_tower(subsection(thinker, "audio_config")),
            ),
            backbone=_llama("backbone_config", backbone, _BACKBONE_DEFAULTS),
            decoder=_llama("decoder_config", decoder, _DECODER_DEFAULTS),
            codec=read_codec_config(config, codebooks),
            codebooks=codebooks,
            code_vocab_size=size(backbone, "vocab_size", 2051),
            audio_width=size(decoder, "audio_embedding_dim", 2048),
            codebook_eos=integer(config, "codebook_eos_token_id", 0),
        )
        _check_joints(result, size(decoder, "vocab_size", 2051))
        return result


def read_generation_config(generation_config: Section) -> SamplingParams:
    """The sampling of a request that sets nothing. Raises `CheckpointError`.

    `do_sample: false` means greedy. A key that is missing or null has the default of `SamplingParams`. `top_p` is not
    read, because the reference ignores it. (docs/model.md, section 8)
    """
    found = {key: generation_config.get(key) for key in ("temperature", "top_k")}
    greedy = generation_config.get("do_sample") is False
    try:
        return SamplingParams(greedy, **{key: value for key, value in found.items() if value is not None})
    except InvalidArgument as error:
        raise CheckpointError(f"generation_config.json: {error.message}") from None


_BACKBONE_DEFAULTS: Section = {
    "num_hidden_layers": 16,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "max_position_embeddings": 2048,
}
_DECODER_DEFAULTS: Section = {
    "num_hidden_layers": 4,
    "hidden_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 8192,
    "max_position_embeddings": 33,
}


def _llama(where: str, section: Section, defaults: Section) -> StackConfig:
    for key in ("attention_bias", "mlp_bias"):
        if section.get(key):
            raise CheckpointError(f"config.json: {where}.{key}: expected false, found {section[key]!r}")
    filled = {**defaults, **section}
    return _stack(where, filled, head_dim=size(filled, "head_dim", 0), norm_eps=1e-5, qkv_bias=False, theta=500_000.0)


def _thinker_text(section: Section) -> StackConfig:
    filled = {
        "num_hidden_layers": 28,
        "hidden_size": 3584,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "max_position_embeddings": 32768,
        **section,
    }
    head_dim = size(filled, "head_dim", size(filled, "hidden_size", 0) // size(filled, "num_attention_heads", 1))
    where = "thinker_config.text_config"
    return _stack(where, filled, head_dim=head_dim, norm_eps=1e-6, qkv_bias=True, theta=1_000_000.0)


def _stack(
    where: str, section: Section, *, head_dim: int, norm_eps: float, qkv_bias: bool, theta: float
) -> StackConfig:
    activation = section.get("hidden_act", "silu")
    if activation != "silu":
        raise CheckpointError(f"config.json: {where}.hidden_act: expected 'silu', found {activation!r}")
    heads = size(section, "num_attention_heads", 0)
    max_positions = size(section, "max_position_embeddings", 0)
    return StackConfig(
        layers=size(section, "num_hidden_layers", 0),
        width=size(section, "hidden_size", 0),
        heads=heads,
        kv_heads=size(section, "num_key_value_heads", heads),
        head_dim=head_dim,
        ffn_width=size(section, "intermediate_size", 0),
        norm_eps=number(section, "rms_norm_eps", norm_eps),
        qkv_bias=qkv_bias,
        rope=_rope(where, section, theta, max_positions),
        max_positions=max_positions,
    )


def _rope(where: str, section: Section, default_theta: float, max_positions: int) -> RopeConfig:
    """Read `rope_scaling` (older files) or `rope_parameters`. Theta is in this object or beside it.

    The thinker has positions of three axes ("mrope"). For text and audio all axes are equal, so this is plain RoPE.
    """
    key = "rope_scaling" if section.get("rope_scaling") else "rope_parameters"
    rope = subsection(section, key)
    theta = number(rope, "rope_theta", number(section, "rope_theta", default_theta))
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind in ("default", "mrope"):
        return RopeConfig(theta=theta)
    if kind != "llama3":
        raise CheckpointError(f"config.json: {where}: expected RoPE of type 'default' or 'llama3', found {kind!r}")
    missing = [key for key in ("factor", "low_freq_factor", "high_freq_factor") if rope.get(key) is None]
    if missing:
        raise CheckpointError(f"config.json: {where}: llama3 RoPE lacks {', '.join(missing)}")
    beside = size(section, "original_max_position_embeddings", max_positions)
    return RopeConfig(
        theta=theta,
        kind="llama3",
        factor=number(rope, "factor", 1.0),
        low_freq_factor=number(rope, "low_freq_factor", 1.0),
        high_freq_factor=number(rope, "high_freq_factor", 4.0),
        original_max_positions=size(rope, "original_max_position_embeddings", beside),
    )


def _audio_tower(section: Section) -> AudioTowerConfig:
    return AudioTowerConfig(
        layers=size(section, "encoder_layers", 32),
        width=size(section, "d_model", 1280),
        heads=size(section, "encoder_attention_heads", 20),
        ffn_width=size(section, "encoder_ffn_dim", 5120),
        mel_bins=size(section, "num_mel_bins", 128),
        n_window=size(section, "n_window", 100),
        output_width=size(section, "output_dim", 3584),
    )


def _check_joints(config: ChromaConfig, decoder_vocab_size: int) -> None:
    """Check the widths and vocabularies that two parts share. No layer projects between them, so they must agree."""
    backbone_width = config.backbone.width
    for what, found, expected in (
        ("thinker_config.text_config.hidden_size", config.thinker.text.width, backbone_width),
        ("thinker_config.audio_config.output_dim", config.thinker.audio.output_width, config.thinker.text.width),
        ("decoder_config.audio_embedding_dim", config.audio_width, backbone_width),
        ("decoder_config.vocab_size", decoder_vocab_size, config.code_vocab_size),
    ):
        if found != expected:
            raise CheckpointError(f"config.json: {what}: expected {expected}, found {found}")
    if config.code_vocab_size < config.codec.codebook_size:
        raise CheckpointError(
            f"config.json: backbone_config.vocab_size: expected at least {config.codec.codebook_size} "
            f"(codec_config.codebook_size), found {config.code_vocab_size}"
        )
    if config.codec.codebooks < config.codebooks:
        raise CheckpointError(
            f"config.json: codec_config.num_quantizers: expected at least {config.codebooks} "
            f"(audio_num_codebooks), found {config.codec.codebooks}"
        )
