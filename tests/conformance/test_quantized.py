"""Weights in 8 and 4 bits against those as stored: the errors of layers and logits, alone and in company.

The bounds are for the golden checkpoint, whose weights are random, and for chroma-nano, which is trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from chroma_voice.local.repository import trained_checkpoint
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers.linear import Linear
from services.runtime.layers.transformer import Stack
from services.speech_gen.model.generator import Generator
from services.speech_gen.model.weights import load_generator
from tests.support.golden_checkpoint import golden_checkpoint

LAYER_BOUND = {"int8": 0.018, "int4": 0.14}
"""Largest error of one layer's outputs, as a share of their size. Measured: at most 0.012 and 0.095."""

THINKER_HEAD_BOUND = {"int8": 0.025, "int4": 0.22}
"""The same of the head of the thinker, whose rows differ most in size. Measured on chroma-nano: 0.016 and 0.146."""

LOGITS_BOUND = {"golden": {"int8": 0.05, "int4": 0.42}, "nano": {"int8": 0.035, "int4": 0.25}}
"""Largest error of the logits after a whole stack, as a share of their size. Measured: 0.032 and 0.275 on the golden
checkpoint, 0.023 and 0.165 on chroma-nano."""

SAME_CHOICES = {"int8": 0.95, "int4": 0.8}
"""Least share of rows whose largest logit stays the largest, on the trained checkpoint. Measured: 1.0 and 0.9."""


class Loaded:
    """Thinker and generator of one checkpoint in one format."""

    def __init__(self, folder: Path, weights: WeightFormat) -> None:
        checkpoint = Checkpoint.open(folder)
        self.thinker: Thinker = load_thinker(checkpoint, dtype=torch.float32, weights=weights)
        self.generator: Generator = load_generator(checkpoint, slots=1, weights=weights)

    def stacks(self) -> dict[str, tuple[Stack, Linear]]:
        """Each stack with a head that reads it."""
        backbone, decoder = self.generator.backbone, self.generator.decoder
        return {
            "thinker": (self.thinker.stack, self.thinker.head),
            "backbone": (backbone.stack, backbone.head),
            "decoder": (decoder.stack, decoder.heads[0]),
        }

    def layers(self) -> dict[str, Linear]:
        """Every linear layer of the stacks and the tower, and the heads, by name."""
        found: dict[str, Any] = {"projection": self.generator.decoder.projection}
        for name, (stack, head) in self.stacks().items():
            found[f"{name} head"] = head
            for index, layer in enumerate(stack.layers):
                parts = {"qkv": layer.qkv, "out": layer.out, "gate_up": layer.gate_up, "down": layer.down}
                found |= {f"{name} {index} {part}": linear for part, linear in parts.items()}
        for index, layer in enumerate(self.thinker.tower.layers):
            found |= {f"tower {index} {part}": getattr(layer, part) for part in ("fc1", "fc2")}
        return found


@pytest.fixture(scope="module", params=["golden", "nano"])
def checkpoint_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(checkpoint_name: str) -> Path:
    trained = trained_checkpoint()
    assert trained is not None
    return golden_checkpoint() if checkpoint_name == "golden" else trained


@pytest.fixture(scope="module")
def original(folder: Path) -> Loaded:
    return Loaded(folder, "as-stored")


@pytest.fixture(scope="module", params=["int8", "int4"])
def weights(request: pytest.FixtureRequest) -> WeightFormat:
    return request.param


@pytest.fixture(scope="module")
def quantized(folder: Path, weights: WeightFormat) -> Loaded:
    return Loaded(folder, weights)


def noise(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def through(stack: Stack, rows: Tensor, cuts: list[int]) -> Tensor:
    """The hidden states of a stream whose rows come in pieces."""
    kv = PagedKV(stack.config, slots=1, pages=8, dtype=torch.float32)
    slot = kv.open()
    return torch.cat([stack(piece, kv.plan([slot], [len(piece)])) for piece in rows.split(cuts)])


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@torch.inference_mode()
def test_every_layers_error_is_within_its_bound(original: Loaded, quantized: Loaded, weights: WeightFormat) -> None:
    layers = quantized.layers()
    for name, layer in original.layers().items():
        width = layers[name].in_features
        rows = noise(8, width)
        bounds = THINKER_HEAD_BOUND if name == "thinker head" else LAYER_BOUND
        assert error(layers[name](rows), layer(rows)) < bounds[weights], name


@torch.inference_mode()
def test_the_error_of_logits_is_within_its_bound(
    original: Loaded, quantized: Loaded, weights: WeightFormat, checkpoint_name: str
) -> None:
    stacks = quantized.stacks()
    for name, (stack, head) in original.stacks().items():
        count = 7 if name == "decoder" else 40
        rows = noise(count, stack.config.width)
        if name == "thinker":
            rows = original.thinker.embedding[50 : 50 + count]
        expected = head(through(stack, rows, [count]))
        found = stacks[name][1](through(stacks[name][0], rows, [count]))
        assert error(found, expected) < LOGITS_BOUND[checkpoint_name][weights], name
        if name == "thinker" and checkpoint_name == "nano":
            same = found.argmax(dim=1) == expected.argmax(dim=1)
            assert same.float().mean() >= SAME_CHOICES[weights]


@torch.inference_mode()
def test_pieces_give_what_the_whole_gives(quantized: Loaded) -> None:
    for stack, _ in quantized.stacks().values():
        rows = noise(7, stack.config.width)
        whole = through(stack, rows, [7])
        torch.testing.assert_close(through(stack, rows, [1, 3, 2, 1]), whole, rtol=0.05, atol=0.05 * float(whole.std()))


@torch.inference_mode()
def test_every_layer_gives_a_row_the_same_bits_alone_and_in_company(quantized: Loaded) -> None:
    for name, layer in quantized.layers().items():
        rows = noise(19, layer.in_features) * torch.logspace(-2, 2, 19)[:, None]
        together = layer(rows)
        for size in (1, 5):
            assert torch.cat([layer(part) for part in rows.split(size)]).equal(together), name
