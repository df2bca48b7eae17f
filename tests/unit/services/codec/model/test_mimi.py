from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints.presets import preset_config
from services.codec.model import convolution, quantizer, transformer
from services.codec.model.mimi import Mimi
from services.common.errors import CheckpointError, InvalidArgument
from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.random_mimi import write_random
from tests.support.small_codebooks import SMALL_CODEBOOK, write_small


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"upsampling_ratios": [8, 6, 5, 2]}, "samples a frame: expected 1920, found 960"),
        ({"use_conv_shortcut": True}, "use_conv_shortcut: expected False, found True"),
        ({"hidden_act": "relu"}, "hidden_act: expected 'gelu', found 'relu'"),
        ({"num_quantizers": 9, "num_semantic_quantizers": 8}, "at least 8 quantizers"),
    ],
)
def test_another_geometry_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    checkpoint = write_random(tmp_path, seed=1)
    checkpoint.config["codec_config"].update(changes)
    with pytest.raises(CheckpointError, match=said):
        Mimi.load(checkpoint)


def test_a_wrong_shape_names_tensor_expected_and_found(tmp_path: Path) -> None:
    checkpoint = write_random(tmp_path, seed=1)
    checkpoint.config["codec_config"]["intermediate_size"] = 65
    said = r"codec_model\.\w+\.layers\.0\.mlp\.fc2\.weight: expected shape \[32, 65\], found \[32, 64\]"
    with pytest.raises(CheckpointError, match=said):
        Mimi.load(checkpoint)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    write_random(tmp_path, seed=1)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["codec_model.upsample.conv.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"codec_model\.upsample\.conv\.weight"):
        Mimi.load(Checkpoint.open(tmp_path))


def test_weights_stored_in_bf16_are_run_in_fp32(tmp_path: Path) -> None:
    write_random(tmp_path, seed=1)
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    codec = Mimi.load(Checkpoint.open(tmp_path))
    state = codec.decoder.new_state(1, 1)
    pcm = codec.decoder.step(torch.zeros(1, 1, 8, dtype=torch.int64), torch.tensor([0]), state)
    assert pcm.dtype == state.conv_rows.dtype == state.window.keys_values.dtype == torch.float32


@pytest.fixture
def small(tmp_path: Path) -> Mimi:
    """A codec of 512 codes a codebook."""
    return Mimi.load(write_small(tmp_path))


def test_frames_outside_the_codebooks_are_refused(small: Mimi) -> None:
    with pytest.raises(InvalidArgument, match=r"expected codes in 0\.\.511, found 512 in frame 0, codebook 0"):
        small.decode(np.full((1, 8), SMALL_CODEBOOK))


def test_sound_becomes_codes_of_the_codebooks(small: Mimi) -> None:
    pcm = np.random.default_rng(0).normal(0, 0.1, 4 * 1920).astype(np.float32)
    codes = small.encode(pcm)
    assert codes.shape == (4, 8)
    assert codes.max() < SMALL_CODEBOOK


def test_more_codes_than_messages_can_name_are_refused(tmp_path: Path) -> None:
    config = preset_config("tiny")
    config["codec_config"]["codebook_size"] = 2049
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"unread": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="codebook_size: expected 1 to 2048, found 2049"):
        Mimi.load(Checkpoint.open(tmp_path))


def test_the_file_of_every_copied_weight_leaves_the_memory(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: set[int] = set()
    for module in (convolution, quantizer, transformer):
        monkeypatch.setattr(module, "page_out", lambda tensors: released.update(it.data_ptr() for it in tensors))
    Mimi.load(checkpoint)
    names = [name for name in checkpoint.names("codec_model.") if checkpoint.tensor(name).data_ptr() in released]
    read = [re.sub(r"\.\d+\.", ".N.", name).rpartition("codec_model.")[2] for name in names]
    assert {
        "decoder.layers.N.conv.weight",
        "encoder.layers.N.conv.weight",
        "upsample.conv.weight",
        "downsample.conv.weight",
        *(f"{half}_transformer.layers.N.mlp.fc2.weight" for half in ("decoder", "encoder")),
        *(
            f"{half}_transformer.layers.N.self_attn.{part}_proj.weight"
            for half in ("decoder", "encoder")
            for part in "qkvo"
        ),
        "quantizer.acoustic_residual_vector_quantizer.layers.N.codebook.embed_sum",
        "quantizer.semantic_residual_vector_quantizer.layers.N.codebook.embed_sum",
    } <= set(read)
    assert not [name for name in read if name.endswith(("bias", "fc1.weight"))]  # these are the mapped file itself
