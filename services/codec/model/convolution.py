"""Causal convolutions over streams, each one matrix product (docs/model.md, section 6).

Activations are [B, L, D], channels last. A convolution then is a product of windows [B * L, kernel * D] with a matrix,
and a transposed one with kernel = 2 * stride is a product of [previous row, row] whose output, read as more rows,
needs no overlap-add. One frame of the full-size decoder takes an eighth of the time that torch's conv1d and
conv_transpose1d take on a CPU. The state of a stream is the same for every layer: the last rows of its input.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from services.runtime.checkpoint.mapped_memory import page_out
from services.runtime.checkpoint.weights import Weights


class ConvState:
    """The convolutions' state of the B streams of one step: the last input rows of each layer.

    Each layer calls `extend` once, and layers run in a fixed order, so no layer needs to know where its rows lie.

    Args:
        rows: [B, state width of all layers], from the steps before.
        fresh: [B] bool, true for a stream that has run no step.
    """

    def __init__(self, rows: torch.Tensor, fresh: torch.Tensor) -> None:
        self._rows = rows
        self._offset = 0
        self._kept: list[torch.Tensor] = []
        self._fresh = fresh

    def extend(self, x: torch.Tensor, rows: int, *, replicate: bool = False) -> torch.Tensor:
        """[B, L, D] -> [B, rows + L, D]: x behind the last `rows` input rows of earlier steps.

        A stream starts behind zeros, or with `replicate` behind copies of its first row.
        """
        if rows == 0:
            return x
        batch, _, width = x.shape
        earlier = self._rows[:, self._offset : self._offset + rows * width].view(batch, rows, width)
        if replicate:
            earlier = torch.where(self._fresh[:, None, None], x[:, :1], earlier)
        self._offset += rows * width
        extended = torch.cat((earlier, x), dim=1)
        self._kept.append(extended[:, -rows:].flatten(1))
        return extended

    def next_rows(self) -> torch.Tensor:
        """The rows for the next step: [B, state width of all layers]. Call it after every layer has run."""
        return torch.cat(self._kept, dim=1)


class CausalConv:
    """A Conv1d whose last tap is the newest row. With a stride it gives one output row for each full stride."""

    def __init__(
        self,
        weights: Weights,
        width_in: int,
        width_out: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
        replicate: bool = False,
    ) -> None:
        weight = weights.read("conv.weight", width_out, width_in, kernel)
        self._matrix = weight.transpose(1, 2).reshape(width_out, kernel * width_in).contiguous()
        if kernel > 1:
            page_out([weight])  # a copy was made
        self._bias = weights.read("conv.bias", width_out) if bias else None
        self._kernel, self._stride, self._dilation = kernel, stride, dilation
        self._rows = (kernel - 1) * dilation + 1 - stride
        self._replicate = replicate
        self.state_width = self._rows * width_in
        """Floats a stream keeps for this layer."""

    def __call__(self, x: torch.Tensor, conv: ConvState) -> torch.Tensor:
        """[B, L, width_in] -> [B, ceil(L / stride), width_out].

        L is a multiple of the stride except at a stream's end, where the missing rows are zeros or, with
        `replicate`, copies of the last one, as the whole-file encode has them.
        """
        missing = -x.shape[1] % self._stride
        if missing:
            last = x[:, -1:].expand(-1, missing, -1)
            x = torch.cat((x, last if self._replicate else torch.zeros_like(last)), dim=1)
        length = x.shape[1] // self._stride
        x = conv.extend(x, self._rows, replicate=self._replicate)
        rows = F.linear(_windows(x, length, self._kernel, self._stride, self._dilation), self._matrix, self._bias)
        return rows.view(x.shape[0], length, -1)


class UpsamplingConv:
    """A causal ConvTranspose1d with kernel 2 * stride: output rows of input row t see rows t - 1 and t."""

    def __init__(
        self, weights: Weights, width_in: int, width_out: int, *, stride: int, groups: int = 1, bias: bool = True
    ) -> None:
        stored = weights.read("conv.weight", width_in, width_out // groups, 2 * stride)
        weight = _ungrouped(stored, groups)  # [width_in, width_out, 2 * stride]
        both = torch.cat((weight[..., stride:], weight[..., :stride]))  # taps for row t - 1, then for row t
        self._matrix = both.permute(2, 1, 0).reshape(stride * width_out, 2 * width_in).contiguous()
        page_out([stored])
        self._bias = weights.read("conv.bias", width_out).repeat(stride) if bias else None
        self._stride = stride
        self._width_out = width_out
        self.state_width = width_in
        """Floats a stream keeps for this layer."""

    def __call__(self, x: torch.Tensor, conv: ConvState) -> torch.Tensor:
        """[B, L, width_in] -> [B, L * stride, width_out]."""
        batch, length, _ = x.shape
        windows = _windows(conv.extend(x, 1), length, kernel=2, stride=1, dilation=1)
        rows = F.linear(windows, self._matrix, self._bias)  # [B * L, stride * width_out]
        return rows.view(batch, length * self._stride, self._width_out)


class ResidualBlock:
    """x + narrow-and-widen(x), with ELU before each of its two convolutions."""

    def __init__(self, weights: Weights, width: int, *, hidden: int, kernel: int, dilation: int) -> None:
        self._first = CausalConv(weights.below("block.1"), width, hidden, kernel, dilation=dilation)
        self._second = CausalConv(weights.below("block.3"), hidden, width, 1)
        self.state_width = self._first.state_width
        """Floats a stream keeps for this layer."""

    def __call__(self, x: torch.Tensor, conv: ConvState) -> torch.Tensor:
        """[B, L, width] -> [B, L, width]."""
        return self._second(F.elu_(self._first(F.elu(x), conv)), conv).add_(x)


def _windows(x: torch.Tensor, length: int, kernel: int, stride: int, dilation: int) -> torch.Tensor:
    """[B, L', D] contiguous -> [B * length, kernel * D]: the inputs of each output row, oldest first."""
    batch, _, width = x.shape
    view = x.as_strided((batch, length, kernel, width), (x.stride(0), stride * width, dilation * width, 1))
    return view.reshape(batch * length, kernel * width)


def _ungrouped(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """[in, out / groups, k] -> [in, out, k], zero where a group has no tap."""
    if groups == 1:
        return weight
    width_in, group_out, kernel = weight.shape
    whole = weight.new_zeros(groups, width_in // groups, groups, group_out, kernel)
    group = torch.arange(groups, device=weight.device)
    whole[group, :, group] = weight.view(groups, width_in // groups, group_out, kernel)
    return whole.view(width_in, groups * group_out, kernel)
