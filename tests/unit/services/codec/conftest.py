from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.codec.model.mimi import Mimi
from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.golden_checkpoint import golden_checkpoint
from tests.support.golden_files import load_golden
from tests.support.random_mimi import GOLDEN, write_random

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(golden_checkpoint())


@pytest.fixture(scope="session")
def mimi(checkpoint: Checkpoint) -> Mimi:
    return Mimi.load(checkpoint)


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    return load_golden(GOLDEN, "mimi")


@pytest.fixture(scope="session")
def odd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Other dimensions throughout: shared KV heads, two residual layers, grouped upsampling, a window of 7."""
    folder: Path = tmp_path_factory.mktemp("odd")
    return write_random(
        folder,
        seed=3,
        hidden_size=48,
        num_filters=3,
        num_residual_layers=2,
        residual_kernel_size=5,
        kernel_size=5,
        last_kernel_size=5,
        upsampling_ratios=[6, 8, 4, 5],
        upsample_groups=12,
        codebook_dim=48,
        vector_quantization_hidden_dimension=48,
        num_quantizers=10,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        intermediate_size=80,
        sliding_window=7,
    )
