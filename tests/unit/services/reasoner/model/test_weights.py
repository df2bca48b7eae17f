"""The reasoner's tensors are read with the shapes that config.json says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import CheckpointError
from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.layers import quantized_cpu
from services.runtime.layers.quantized_cpu import Int4Product, Int8Product
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


def test_the_tower_whose_chunks_have_many_rows_holds_4_bits_in_8_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized_cpu, "library", lambda: None)  # compiled steps have no need of it
    thinker = load_thinker(Checkpoint.open(golden_checkpoint()), dtype=torch.float32, weights="int4")
    assert isinstance(thinker.stack.layers[0].down.product, Int4Product)
    tower: Any = thinker.tower
    for layer in (*(each.fc1 for each in tower.layers), *(each.self_attn.q_proj for each in tower.layers), tower.proj):
        assert isinstance(layer.product, Int8Product)
