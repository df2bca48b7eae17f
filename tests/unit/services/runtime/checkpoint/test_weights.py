"""Tensors read below a prefix are checked against the shape that the model expects."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.weights import Weights

STORED = {"top.inner.weight": torch.arange(6.0).view(3, 2), "top.inner.scale": torch.ones(2)}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    (tmp_path / "config.json").write_text("{}")
    save_file(STORED, tmp_path / "model.safetensors")
    return Checkpoint.open(tmp_path)


def inner_module(rows: int = 3) -> nn.Module:
    with torch.device("meta"):
        module = nn.Linear(2, rows, bias=False)
        module.register_buffer("scale", torch.empty(2))
    module.register_buffer("cache", torch.zeros(1), persistent=False)
    return module


def test_names_below_a_prefix_are_read_in_the_dtype_asked_for(checkpoint: Checkpoint) -> None:
    weights = Weights(checkpoint, torch.bfloat16)
    read = weights.below("top").below("inner").read("weight", 3, 2)
    assert read.dtype == torch.bfloat16
    assert read.equal(weights.read("top.inner.weight", 3, 2))


def test_a_wrong_shape_names_tensor_expected_and_found(checkpoint: Checkpoint) -> None:
    inner = Weights(checkpoint, torch.float32).below("top.inner")
    said = r"tensor top\.inner\.weight: expected shape \[2, 3\], found \[3, 2\]"
    with pytest.raises(CheckpointError, match=said):
        inner.read("weight", 2, 3)
    with pytest.raises(CheckpointError, match=r"top\.inner\.weight: expected shape \[4, 2\], found \[3, 2\]"):
        inner.fill(inner_module(rows=4))


def test_a_missing_tensor_is_named(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=r"tensor top\.inner\.bias is missing"):
        Weights(checkpoint, torch.float32).below("top.inner").read("bias", 3)


def test_a_meta_module_is_filled_with_the_mapped_file_itself(checkpoint: Checkpoint) -> None:
    module = inner_module()
    Weights(checkpoint, torch.float32).below("top.inner").fill(module)
    weight = module.get_parameter("weight")
    assert not weight.requires_grad
    assert weight.equal(STORED["top.inner.weight"])
    assert weight.data_ptr() == checkpoint.tensor("top.inner.weight").data_ptr()


def test_persistent_buffers_are_filled_and_others_stay_as_they_are(checkpoint: Checkpoint) -> None:
    module = inner_module()
    Weights(checkpoint, torch.bfloat16).below("top.inner").fill(module)
    assert module.get_buffer("scale").tolist() == [1, 1]
    assert module.get_buffer("scale").dtype == torch.bfloat16
    assert module.get_buffer("cache").dtype == torch.float32
