"""Schemes round matrices and nothing else; more bits err less."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.quality.quantization_schemes import (
    SCHEMES,
    product_errors,
    question_logits,
    rounded_tensors,
    without_offsets,
    write,
)
from services.runtime.checkpoint.quantized_layout import CODEBOOK_HEADS
from tests.support.paths import ROOT

DICE = torch.Generator().manual_seed(3)
TENSORS = {
    "thinker.model.layers.0.mlp.up_proj.weight": torch.randn(48, 64, generator=DICE).half(),
    "thinker.model.layers.0.input_layernorm.weight": torch.ones(64),
    CODEBOOK_HEADS: torch.randn(7, 64, 32, generator=DICE).half(),
}


def test_more_bits_and_smaller_groups_err_less() -> None:
    mean = {scheme.name: sum(product_errors(TENSORS, scheme)) for scheme in SCHEMES}

    assert mean["8-bits"] < mean["offset-32"] < mean["offset-64"] < mean["scale-64"]
    assert mean["offset-32"] < mean["scale-32"] < mean["scale-64"]


def test_a_scale_alone_rounds_to_fifteen_values_of_a_group() -> None:
    rounded = without_offsets(32)(torch.randn(1, 32, generator=DICE))

    whole = rounded / rounded.abs().max() * 7
    assert torch.allclose(whole, whole.round(), atol=1e-2)
    assert whole.abs().max() <= 7.01
    assert not without_offsets(32)(torch.zeros(1, 32)).any()


def test_only_matrices_change_and_keep_their_shapes() -> None:
    for scheme in SCHEMES:
        rounded = rounded_tensors(TENSORS, scheme)
        assert {name: tensor.shape for name, tensor in rounded.items()} == {
            name: tensor.shape for name, tensor in TENSORS.items()
        }
        norm = "thinker.model.layers.0.input_layernorm.weight"
        assert rounded[norm] is TENSORS[norm]
        heads = rounded[CODEBOOK_HEADS]
        assert 0 < (heads - TENSORS[CODEBOOK_HEADS].float()).abs().max() < 0.5


@pytest.mark.slow
def test_a_checkpoint_of_rounded_weights_is_read_as_any_other(tmp_path: Path) -> None:
    source = ROOT / "models" / "chroma-nano"
    tensors = {name: tensor for shard in source.glob("*.safetensors") for name, tensor in load_file(shard).items()}

    write(source, rounded_tensors(tensors, SCHEMES[0]), tmp_path / "rounded")

    assert question_logits(tmp_path / "rounded", count=2).shape[0] == 2
