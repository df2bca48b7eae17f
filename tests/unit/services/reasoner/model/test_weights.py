"""The reasoner's tensors are read with the shapes that config.json says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import CheckpointError
from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.golden_checkpoint import golden_checkpoint


@pytest.mark.parametrize("name", ["thinker.lm_head.weight", "thinker.model.embed_tokens.weight"])
def test_a_vocabulary_of_another_size_is_refused(name: str, tmp_path: Path) -> None:
    golden = golden_checkpoint()
    tensors = {key: value for shard in golden.glob("*.safetensors") for key, value in load_file(shard).items()}
    tensors[name] = tensors[name][:-1].contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((golden / "config.json").read_text())
    said = rf"{name}: expected shape \[\d+, 48\], found \[\d+, 48\]"
    with pytest.raises(CheckpointError, match=said):
        load_thinker(Checkpoint.open(tmp_path), dtype=torch.float32)
