"""Streaming convolutions against torch's own, and in any chunking."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from services.codec.model.convolution import CausalConv, ConvState, UpsamplingConv


class SeededWeights:
    """Random tensors of whatever shape is asked for, kept by name."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}

    def read(self, name: str, *shape: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(len(name))
        return self.tensors.setdefault(name, torch.randn(shape, generator=generator))


def run(layer: Any, x: torch.Tensor, chunk: int) -> torch.Tensor:
    """The layer's output for x [B, L, D], `chunk` rows a step."""
    rows = torch.zeros(len(x), layer.state_width)
    outputs: list[torch.Tensor] = []
    for index, part in enumerate(x.split(chunk, dim=1)):
        state = ConvState(rows, fresh=torch.full((len(x),), index == 0))
        outputs.append(layer(part, state))
        if layer.state_width:
            rows = state.next_rows()
            assert rows.shape == (len(x), layer.state_width)
    return torch.cat(outputs, dim=1)


X = torch.randn(2, 24, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("chunk", [4, 8, 24])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(7, 1, 1), (3, 1, 4), (4, 2, 1), (1, 1, 1)])
def test_a_causal_convolution_equals_torchs_in_any_chunking(
    kernel: int, stride: int, dilation: int, chunk: int
) -> None:
    weights: Any = SeededWeights()
    layer = CausalConv(weights, 3, 5, kernel, stride=stride, dilation=dilation)
    padded = F.pad(X.transpose(1, 2), ((kernel - 1) * dilation + 1 - stride, 0))
    tensors = weights.tensors
    expected = F.conv1d(padded, tensors["conv.weight"], tensors["conv.bias"], stride=stride, dilation=dilation)
    assert torch.allclose(run(layer, X, chunk), expected.transpose(1, 2), atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 5, 24])
@pytest.mark.parametrize("groups", [1, 3])
def test_an_upsampling_convolution_equals_torchs_in_any_chunking(groups: int, chunk: int) -> None:
    weights: Any = SeededWeights()
    layer = UpsamplingConv(weights, 3, 3, stride=2, groups=groups, bias=False)
    expected = F.conv_transpose1d(X.transpose(1, 2), weights.tensors["conv.weight"], stride=2, groups=groups)
    assert torch.allclose(run(layer, X, chunk), expected[:, :, : 2 * X.shape[1]].transpose(1, 2), atol=1e-5)


def test_a_replicating_convolution_starts_behind_copies_of_the_first_row() -> None:
    weights: Any = SeededWeights()
    layer = CausalConv(weights, 3, 5, 4, stride=2, bias=False, replicate=True)
    padded = torch.cat((X[:, :1].expand(-1, 2, -1), X), dim=1).transpose(1, 2)
    expected = F.conv1d(padded, weights.tensors["conv.weight"], stride=2).transpose(1, 2)
    assert torch.allclose(run(layer, X, 6), expected, atol=1e-5)
