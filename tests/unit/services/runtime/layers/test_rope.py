"""Rotary positions against transformers' own."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.layers.rope import inverse_frequencies, rotary_table, rotate, whole_angles

LLAMA3 = RopeConfig(
    theta=500_000.0, kind="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=64
)
PLAIN = RopeConfig(theta=10_000.0)


def stack(rope: RopeConfig) -> StackConfig:
    return StackConfig(1, 64, 4, 2, 32, 64, 1e-5, False, rope, 512)


def reference(rope: RopeConfig) -> LlamaRotaryEmbedding:
    parameters = {"rope_theta": rope.theta, "rope_type": rope.kind}
    if rope.kind == "llama3":
        parameters |= {
            "factor": rope.factor,
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
            "original_max_position_embeddings": rope.original_max_positions,
        }
    config = LlamaConfig(
        hidden_size=128, num_attention_heads=4, head_dim=32, max_position_embeddings=512, rope_parameters=parameters
    )
    return LlamaRotaryEmbedding(config)


@pytest.mark.parametrize("rope", [PLAIN, LLAMA3], ids=["default", "llama3"])
def test_frequencies_equal_transformers(rope: RopeConfig) -> None:
    torch.testing.assert_close(inverse_frequencies(rope, 32), reference(rope).inv_freq, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rope", [PLAIN, LLAMA3], ids=["default", "llama3"])
def test_rotation_equals_transformers(rope: RopeConfig) -> None:
    torch.manual_seed(0)
    positions = torch.tensor([0, 1, 63, 64, 511])
    x = torch.randn(5, 4, 32)
    cos, sin = rotary_table(stack(rope), 512)
    ours = rotate(x, *whole_angles(cos[positions], sin[positions]))
    their_cos, their_sin = reference(rope)(x, positions[None])
    theirs, _ = apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], their_cos, their_sin)
    torch.testing.assert_close(ours, theirs[0].transpose(0, 1), rtol=1e-5, atol=1e-5)


def test_bfloat16_rows_are_rotated_in_float32() -> None:
    torch.manual_seed(0)
    cos, sin = rotary_table(stack(PLAIN), 512)
    x = torch.randn(1, 2, 32).bfloat16()
    exact = rotate(x.double().float(), *whole_angles(cos[500:501], sin[500:501]))
    rotated = rotate(x, *whole_angles(cos[500:501], sin[500:501]))
    assert rotated.dtype == torch.bfloat16
    assert torch.equal(rotated, exact.bfloat16())
