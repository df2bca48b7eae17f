"""Random weights depend on seed and name alone, keep the size of what they multiply, and let a turn end."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from checkpoints import random_weights
from checkpoints.presets import preset_config
from checkpoints.random_weights import AUDIO_TABLE_STD, EOS_GAIN, RandomWeights
from checkpoints.tensor_names import expected_tensors
from services.runtime.checkpoint.config import ChromaConfig

CONFIG = ChromaConfig.from_dict(preset_config("tiny"))
SHAPES = expected_tensors(CONFIG)
WEIGHTS = RandomWeights(CONFIG, [1, 2], seed=0)
ENDLESS = RandomWeights(CONFIG, [1, 2], seed=0, endless=True)
HEAD0 = "backbone.codebook0_head.weight"


def values(name: str, weights: RandomWeights = WEIGHTS) -> Tensor:
    return torch.cat(list(weights.blocks(name, SHAPES[name])))


def test_a_tensor_depends_on_the_seed_and_its_name() -> None:
    first, second = (f"thinker.model.layers.{index}.mlp.gate_proj.weight" for index in (0, 1))
    assert values(first).equal(values(first))
    assert not values(first).equal(values(second))
    assert not values(first).equal(values(first, RandomWeights(CONFIG, [1, 2], seed=1)))


def test_rows_are_the_same_in_blocks_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["thinker.lm_head.weight", HEAD0, "decoder.projection.weight"]
    whole = [values(name) for name in names]
    monkeypatch.setattr(random_weights, "BLOCK_VALUES", 960)  # a multiple of 16: torch draws 16 values at a time
    for name, expected in zip(names, whole, strict=True):
        assert values(name).equal(expected), name


def test_large_tensors_are_drawn_in_blocks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_weights, "BLOCK_VALUES", 1000)
    blocks = list(WEIGHTS.blocks("thinker.lm_head.weight", (640, 48)))
    assert max(block.numel() for block in blocks) <= 1000
    assert torch.cat(blocks).shape == (640, 48)


def test_only_words_and_the_end_of_the_text_are_likely() -> None:
    likely = values("thinker.lm_head.weight").norm(dim=1) > 0.4
    assert likely.nonzero().flatten().tolist() == [1, 2, CONFIG.tokens.im_end]


def test_the_code_that_ends_speech_is_likelier_than_others() -> None:
    plain, changed = values(HEAD0, ENDLESS), values(HEAD0)
    plain[CONFIG.codebook_eos] *= EOS_GAIN
    assert changed.equal(plain)


def test_eos_in_codebook_0_completes_itself() -> None:
    """Coordinate 0 of the decoder carries the EOS code to every head. No other code and no layer writes it."""
    table = values("decoder.audio_embedding.embed_audio_tokens.weight")
    projected = table @ values("decoder.projection.weight").T
    eos_rows = torch.arange(CONFIG.codebooks) * CONFIG.code_vocab_size + CONFIG.codebook_eos
    flagged = projected[:, 0].nonzero().flatten()
    assert torch.equal(flagged, eos_rows)
    assert not projected[eos_rows, 1:].any()
    for index in range(CONFIG.decoder.layers):
        for writer in ("self_attn.o_proj", "mlp.down_proj"):
            assert not values(f"decoder.model.layers.{index}.{writer}.weight")[0].any()
    heads = values("decoder.codebook_head.weight")
    assert (heads[:, 0].argmax(dim=-1) == CONFIG.codebook_eos).all()


def test_endless_weights_are_plain() -> None:
    assert (values("thinker.lm_head.weight", ENDLESS).norm(dim=1) > 0.4).all()
    assert values("decoder.projection.weight", ENDLESS)[:, 0].all()
    assert values("decoder.codebook_head.weight", ENDLESS)[:, 0].abs().max() < 1


@pytest.mark.parametrize(
    "name", ["thinker.model.layers.0.mlp.down_proj.weight", "backbone.model.layers.1.self_attn.q_proj.weight"]
)
def test_a_matrix_keeps_the_size_of_what_it_multiplies(name: str) -> None:
    matrix = values(name)
    assert float(matrix.std()) * math.sqrt(matrix.shape[1]) == pytest.approx(0.9, rel=0.05)


def test_tables_norms_and_codebooks_have_their_own_sizes() -> None:
    assert float(values("thinker.model.embed_tokens.weight").std()) == pytest.approx(1, rel=0.02)
    table = values("decoder.audio_embedding.embed_audio_tokens.weight", ENDLESS)
    assert float(table.std()) == pytest.approx(AUDIO_TABLE_STD, rel=0.02)
    assert values("backbone.model.norm.weight").eq(1).all()
    codebook = "codec_model.quantizer.semantic_residual_vector_quantizer.layers.0.codebook."
    assert values(f"{codebook}initialized").tolist() == [1]
    assert values(f"{codebook}cluster_usage").eq(1).all()
    assert float(values(f"{codebook}embed_sum").std()) == pytest.approx(1, rel=0.02)


def test_the_sound_has_no_offset() -> None:
    """The last convolution of the codec has no bias and does not answer to a constant."""
    last = max(
        (name for name in SHAPES if name.startswith("codec_model.decoder.layers.") and name.endswith("conv.bias")),
        key=lambda name: int(name.split(".")[3]),
    )
    assert SHAPES[last] == (1,)
    assert values(last).eq(0).all()
    weight = values(last.replace("bias", "weight"))
    torch.testing.assert_close(weight.mean(dim=2), torch.zeros_like(weight[..., 0]), rtol=0, atol=1e-8)
