"""Auxiliary heads of the decoder's training: its early layers learn from a mel loss long before the waveform's loss
teaches them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MimiModel
from transformers.models.mimi.modeling_mimi import MimiConvTranspose1d

from train.codec.mel import LogMel
from train.codec.mimi import decoder_half

_BANDS = 80
_HOP = 120
"""Samples between columns: 200 Hz, the rate of the first upsampled layer."""
_COLUMNS_PER_FRAME = 16
_LAYERS = 2


class MelHeads(nn.Module):
    """Linear maps from the decoder's first two upsampled layers to a mel spectrogram. For training only."""

    def __init__(self, model: MimiModel) -> None:
        super().__init__()
        layers = [
            layer for layer in decoder_half(model).decoder_seanet.layers if isinstance(layer, MimiConvTranspose1d)
        ]
        self._hidden: dict[int, Tensor] = {}
        for index, layer in enumerate(layers[:_LAYERS]):
            layer.register_forward_hook(self._keep(index))
        self._heads = nn.ModuleList(nn.Conv1d(layer.conv.out_channels, _BANDS, 1) for layer in layers[:_LAYERS])
        self._mel = LogMel(fft=512, hop=_HOP, bands=_BANDS)

    def forward(self, wanted: Tensor, context: int) -> Tensor:
        """The mel distance of the decoder's last pass from the waveforms [B, S], summed over the layers.

        Frames before `context` do not count.
        """
        with torch.no_grad():
            around = self._mel.fft // 2
            target = self._mel(F.pad(wanted, (around, around)))[:, :, : wanted.shape[1] // _HOP]
        distances = []
        for index, head in enumerate(self._heads):
            reading = F.adaptive_avg_pool1d(head(self._hidden.pop(index).float()), target.shape[2])
            distances.append((reading - target)[:, :, context * _COLUMNS_PER_FRAME :].abs().mean())
        return torch.stack(distances).sum()

    def _keep(self, index: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, hidden: Tensor) -> None:
            self._hidden[index] = hidden

        return hook
