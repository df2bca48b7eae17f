"""The description of a quantised checkpoint, and which tensors are quantised."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from checkpoints.presets import preset_config
from checkpoints.tensor_names import expected_tensors
from services.common.errors import CheckpointError
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.quantized_layout import (
    CONFIG_KEY,
    Quantization,
    check_format,
    is_matrix,
    parts_of,
    read_quantization,
    scheme_fingerprint,
)

INT4 = Quantization(4, 64, "0123456789abcdef", "fedcba9876543210")
INT8 = Quantization(8, 0, "0123456789abcdef", "fedcba9876543210")


@pytest.mark.parametrize("quantization", [INT4, INT8])
def test_the_description_is_read_as_it_was_written(quantization: Quantization) -> None:
    assert read_quantization({CONFIG_KEY: quantization.to_dict()}) == quantization
    assert read_quantization({}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quant_method": "gptq"}, r"quantised with 'gptq', which cannot be read here: serve the original"),
        ({"bits": 3}, r"bits: expected 4 or 8, found 3"),
        ({"bits": "4"}, r"bits: expected a number"),
        ({"group_size": 33}, r"group_size: expected an even number, found 33"),
        ({"source_fingerprint": "x"}, r"expected 16 hex digits"),
        ({"tensors_digest": None}, r"expected 16 hex digits"),
    ],
)
def test_what_cannot_be_served_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_quantization({CONFIG_KEY: {**INT4.to_dict(), **change}})


def test_a_quantised_checkpoint_is_served_in_its_own_bits_only() -> None:
    for wanted in ("as-stored", "int4"):
        check_format(INT4, wanted)
    with pytest.raises(CheckpointError, match=r"already quantised as int4 .* as int8: set CHROMA_WEIGHTS to as-stored"):
        check_format(INT4, "int8")
    check_format(None, "int8")


def test_all_matrices_of_the_linear_layers_are_quantised_and_nothing_else() -> None:
    tensors = expected_tensors(ChromaConfig.from_dict(preset_config("tiny")))
    chosen = {name for name in tensors if is_matrix(name)}
    others = {
        name for name, shape in tensors.items() if name not in chosen and len(shape) > 1 and "codec_model" not in name
    }
    assert all(len(tensors[name]) == 2 for name in chosen - {"decoder.codebook_head.weight"})
    assert others == {
        "thinker.model.embed_tokens.weight",
        "thinker.audio_tower.conv1.weight",
        "thinker.audio_tower.conv2.weight",
        "thinker.audio_tower.audio_bos_eos_token.weight",
        "backbone.audio_embedding.embed_audio_tokens.weight",
        "decoder.audio_embedding.embed_audio_tokens.weight",
    }


def test_a_matrix_is_stored_in_parts() -> None:
    assert parts_of("x.weight", 6, 128, INT8) == {
        "x.weight": (torch.int8, (6, 128)),
        "x.weight_scale": (torch.float32, (6, 1)),
    }
    groups = (torch.bfloat16, (6, 2))
    expected = {"x.weight": (torch.uint8, (6, 64)), "x.weight_scale": groups, "x.weight_offset": groups}
    assert parts_of("x.weight", 6, 128, INT4) == expected
    with pytest.raises(CheckpointError, match=r"divides its 96 inputs, found 64; 32 does"):
        parts_of("x.weight", 6, 96, INT4)


def test_schemes_of_one_checkpoint_have_different_fingerprints() -> None:
    source = INT4.source
    names = {
        scheme_fingerprint(source, "int8"),
        scheme_fingerprint(source, "int4"),
        scheme_fingerprint(source, "int4", 32),
    }
    assert len(names) == 3
    assert all(len(name) == 16 for name in names)
