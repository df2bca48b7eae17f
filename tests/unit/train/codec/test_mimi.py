"""The module for training has a checkpoint's weights, and the service computes the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from checkpoints.presets import preset_config
from checkpoints.tensor_names import expected_tensors
from services.codec.model.mimi import Mimi
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from train.codec.mimi import build_mimi, codebooks, codec_tensors, decode_codes, load_codec
from train.pack.config import nano_config


def test_tensors_have_the_published_names_and_shapes() -> None:
    config = nano_config()
    with torch.device("meta"):
        model = build_mimi(config["codec_config"])
    expected = expected_tensors(ChromaConfig.from_dict(config))
    assert {name: tuple(tensor.shape) for name, tensor in codec_tensors(model).items()} == {
        name: shape for name, shape in expected.items() if name.startswith("codec_model.")
    }


def test_loading_replaces_every_weight_and_forgets_old_codebooks() -> None:
    config = preset_config("tiny")["codec_config"]
    ours, other = build_mimi(config), build_mimi(config)
    for codebook in codebooks(other):
        codebook.embed_sum.normal_()
    codes = torch.randint(0, 2048, (1, 3, 8))
    assert codebooks(ours)[0].embed.abs().max() == 0  # read once, so cached
    load_codec(ours, codec_tensors(other))
    assert torch.equal(decode_codes(ours, codes), decode_codes(other, codes))


def test_missing_tensor_is_named() -> None:
    model = build_mimi(preset_config("tiny")["codec_config"])
    tensors = codec_tensors(model)
    del tensors["codec_model.upsample.conv.weight"]
    with pytest.raises(KeyError, match=r"codec_model\.upsample\.conv\.weight"):
        load_codec(model, tensors)


def test_service_decodes_as_the_trained_module_does(tmp_path: Path) -> None:
    config = preset_config("tiny")
    model = build_mimi(config["codec_config"])
    for codebook in codebooks(model):
        codebook.embed_sum.normal_()
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(
        {name: tensor.contiguous() for name, tensor in codec_tensors(model).items()}, tmp_path / "model.safetensors"
    )
    codes = torch.randint(0, 2048, (1, 40, 8))
    with torch.no_grad():
        whole = decode_codes(model, codes)[0].numpy()
    served = Mimi.load(Checkpoint.open(tmp_path)).decode(codes[0].numpy())
    np.testing.assert_allclose(served, whole, atol=1e-4 * np.abs(whole).max())
