"""The convolution stacks around the transformers: waveform to 25 Hz rows and back (docs/model.md, section 6)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from services.codec.model.convolution import CausalConv, ConvState, ResidualBlock, UpsamplingConv
from services.runtime.checkpoint.config import CodecConfig
from services.runtime.checkpoint.weights import Weights


class WaveformDecoder:
    """25 Hz rows to samples. `layers.N` of the checkpoint counts the ELUs too."""

    def __init__(self, weights: Weights, config: CodecConfig) -> None:
        width = config.filters * 2 ** len(config.ratios)
        self._first = CausalConv(weights.below("layers.0"), config.width, width, config.kernel_size)
        self._stages: list[tuple[UpsamplingConv, list[ResidualBlock]]] = []
        index = 2
        for ratio in config.ratios:
            up = UpsamplingConv(weights.below(f"layers.{index}"), width, width // 2, stride=ratio)
            width //= 2
            blocks = _residual_blocks(weights, index + 1, width, config)
            self._stages.append((up, blocks))
            index += len(blocks) + 2
        self._last = CausalConv(weights.below(f"layers.{index}"), width, 1, config.last_kernel_size)
        self.state_width = (
            self._first.state_width
            + sum(up.state_width + sum(block.state_width for block in blocks) for up, blocks in self._stages)
            + self._last.state_width
        )

    def __call__(self, x: torch.Tensor, conv: ConvState) -> torch.Tensor:
        """[B, L, width] -> [B, L * product of ratios] samples."""
        x = self._first(x, conv)
        for up, blocks in self._stages:
            x = up(F.elu_(x), conv)
            for block in blocks:
                x = block(x, conv)
        return self._last(F.elu_(x), conv).squeeze(2)


class WaveformEncoder:
    """Samples to 25 Hz rows: the mirror of `WaveformDecoder`."""

    def __init__(self, weights: Weights, config: CodecConfig) -> None:
        width = config.filters
        self._first = CausalConv(weights.below("layers.0"), 1, width, config.kernel_size)
        self._stages: list[tuple[list[ResidualBlock], CausalConv]] = []
        index = 1
        for ratio in reversed(config.ratios):
            blocks = _residual_blocks(weights, index, width, config)
            index += len(blocks) + 1
            down = CausalConv(weights.below(f"layers.{index}"), width, 2 * width, 2 * ratio, stride=ratio)
            self._stages.append((blocks, down))
            width *= 2
            index += 1
        self._last = CausalConv(weights.below(f"layers.{index + 1}"), width, config.width, config.last_kernel_size)
        self.state_width = (
            self._first.state_width
            + sum(sum(block.state_width for block in blocks) + down.state_width for blocks, down in self._stages)
            + self._last.state_width
        )

    def __call__(self, samples: torch.Tensor, conv: ConvState) -> torch.Tensor:
        """[B, S] samples -> [B, ceil(S / product of ratios), width]."""
        x = self._first(samples.unsqueeze(2), conv)
        for blocks, down in self._stages:
            for block in blocks:
                x = block(x, conv)
            x = down(F.elu_(x), conv)
        return self._last(F.elu_(x), conv)


def _residual_blocks(weights: Weights, index: int, width: int, config: CodecConfig) -> list[ResidualBlock]:
    growth = int(config.raw.get("dilation_growth_rate", 2))
    return [
        ResidualBlock(
            weights.below(f"layers.{index + number}"),
            width,
            hidden=width // config.compress,
            kernel=config.residual_kernel_size,
            dilation=growth**number,
        )
        for number in range(config.residual_layers)
    ]
