"""transformers' Mimi, the module that the codec stages train, and its weights under their published names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import MimiConfig, MimiModel
from transformers.models.mimi.modeling_mimi import (
    MimiDecoderModel,
    MimiEncoderModel,
    MimiEuclideanCodebook,
    MimiResidualVectorQuantizer,
    MimiVectorQuantization,
)

PREFIX = "codec_model."

_NESTED = re.compile(r"^(?:(encoder|decoder)\.\1_seanet|(?:encoder|decoder)\.(\w+_transformer|upsample|downsample))")


def build_mimi(codec_config: Mapping[str, Any]) -> MimiModel:
    """A freshly initialised Mimi of these dimensions: the `codec_config` section of config.json."""
    return MimiModel(MimiConfig(**{**codec_config, "_frame_rate": None}))


def published_name(name: str) -> str:
    """A tensor's name in checkpoints. transformers 5.17 to 5.23 nest modules that checkpoints keep side by side."""
    return PREFIX + _NESTED.sub(lambda match: match[match.lastindex or 0], name)


def codec_tensors(model: MimiModel) -> dict[str, Tensor]:
    """Every tensor of the model, under its published name."""
    return {published_name(name): tensor for name, tensor in model.state_dict().items()}


def load_codec(model: MimiModel, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors under their published names. Raises `KeyError` with the name of a missing tensor."""
    model.load_state_dict({name: tensors[published_name(name)] for name in model.state_dict()})
    for codebook in codebooks(model):
        codebook._embed = None  # its cache of embed_sum / cluster_usage


def encoder_half(model: MimiModel) -> MimiEncoderModel:
    """The modules before the quantizer."""
    assert isinstance(model.encoder, MimiEncoderModel)
    return model.encoder


def decoder_half(model: MimiModel) -> MimiDecoderModel:
    """The modules after the quantizer."""
    assert isinstance(model.decoder, MimiDecoderModel)
    return model.decoder


def quantizer_halves(model: MimiModel) -> tuple[MimiResidualVectorQuantizer, MimiResidualVectorQuantizer]:
    """The semantic quantizer and the acoustic one."""
    return model.quantizer.semantic_residual_vector_quantizer, model.quantizer.acoustic_residual_vector_quantizer


def codebooks(model: MimiModel) -> list[MimiEuclideanCodebook]:
    """All codebooks in order, from codebook 0."""
    found = []
    for half in quantizer_halves(model):
        for layer in half.layers:
            assert isinstance(layer, MimiVectorQuantization)
            found.append(layer.codebook)
    return found


def input_projections(model: MimiModel) -> tuple[Tensor, Tensor]:
    """The input projections of the semantic and the acoustic half, [codebook width, width, 1] each.

    Mimi has none when the two widths are equal.
    """
    semantic, acoustic = (half.input_proj for half in quantizer_halves(model))
    assert semantic is not None, "expected a quantizer narrower than the codec"
    assert acoustic is not None
    return semantic.weight, acoustic.weight


def output_projections(model: MimiModel) -> tuple[Tensor, Tensor]:
    """The output projections of the semantic and the acoustic half, [width, codebook width, 1] each."""
    semantic, acoustic = (half.output_proj for half in quantizer_halves(model))
    assert semantic is not None, "expected a quantizer narrower than the codec"
    assert acoustic is not None
    return semantic.weight, acoustic.weight


def decode_codes(model: MimiModel, codes: Tensor) -> Tensor:
    """Codes [B, T, K] -> waveform [B, T * 1920], as `MimiModel.decode` does, with gradients."""
    return decoder_half(model)(model.quantizer.decode(codes.transpose(1, 2))).audio_values[:, 0]


def encode_latents(model: MimiModel, pcm: Tensor) -> Tensor:
    """Waveform [B, S] -> inputs of the quantizer [B, ceil(S / 1920), width], with gradients."""
    return encoder_half(model)(pcm[:, None]).latents.transpose(1, 2)
