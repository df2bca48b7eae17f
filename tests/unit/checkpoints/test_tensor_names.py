"""The derived names and shapes equal those of the reference."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from typing import Any

import torch
from transformers import MimiConfig, MimiModel

from checkpoints.presets import preset_config
from checkpoints.tensor_names import expected_tensors
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from tests.support.golden_checkpoint import golden_checkpoint
from tests.support.paths import GOLDEN


def test_full_preset_is_the_published_model_without_its_vision_tower() -> None:
    published = json.loads(gzip.decompress((GOLDEN / "full_size_tensors.json.gz").read_bytes()))
    read = {name: tuple(shape) for name, shape in published.items() if not name.startswith("thinker.visual.")}
    assert expected_tensors(ChromaConfig.from_dict(preset_config("full"))) == read


def test_golden_checkpoint_has_the_expected_names_and_shapes() -> None:
    checkpoint = Checkpoint.open(golden_checkpoint())
    stored = {name: checkpoint.shape(name) for name in checkpoint.names() if not name.startswith("thinker.visual.")}
    expected = expected_tensors(ChromaConfig.from_dict(checkpoint.config))
    del expected[AUDIO_TABLE_NAMES[0]]  # stored once, under the decoder's name
    assert stored == expected


def test_unusual_codec_has_the_shapes_transformers_gives_it() -> None:
    config: dict[str, Any] = preset_config("tiny")
    config["codec_config"].update(
        num_residual_layers=2, upsampling_ratios=[8, 5, 4], use_conv_shortcut=True, sampling_rate=8000, frame_rate=25
    )
    with torch.device("meta"):
        mimi = MimiModel(MimiConfig(**config["codec_config"]))
    expected = expected_tensors(ChromaConfig.from_dict(config))
    ours = Counter(shape for name, shape in expected.items() if name.startswith("codec_model."))
    assert ours == Counter(tuple(tensor.shape) for tensor in mimi.state_dict().values())
