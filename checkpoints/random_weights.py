"""Seeded random weights that run a whole turn: the text is English words, the sound is audible noise, both end.

Each tensor has its own generator, whose seed is made of the checkpoint's seed and the tensor's name. So a value depends
neither on the order of the tensors nor on the sharding. The product of a matrix is about as large as the vector that it
multiplies. At the published width, weights of N(0, 0.02) have this property.

Plain random weights would never end a turn. Three changes let a turn end, by chance, after a few seconds:

- `thinker.lm_head`: only whole words and im_end have rows of full size, and the row of im_end is larger.
- `backbone.codebook0_head`: the row of the EOS code is larger.
- Coordinate 0 of the decoder means "the previous code was the EOS code". Only the embeddings of this code have it, no
  layer writes it, and it makes every head choose the EOS code. So after EOS in codebook 0 the whole frame is EOS.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from services.runtime.checkpoint.config import ChromaConfig

BLOCK_VALUES = 1 << 22
"""Values that are drawn at once. This bounds the memory for writing a checkpoint."""

IM_END_GAIN = 1.5
EOS_GAIN = 2.7
SILENT_GAIN = 0.1
EOS_HEAD_WEIGHT = 8.0
AUDIO_TABLE_STD = 0.35
CODEC_GAIN = 1.3
CODEC_FIRST_GAIN = 10.0
CODEC_LAST_GAIN = 0.015


@dataclass(frozen=True)
class RandomWeights:
    """The weights of one seed. `words` are the token ids that the thinker may choose.

    `endless` leaves out the changes that let a turn end. Benchmarks use it for turns of a given length.
    """

    config: ChromaConfig
    words: Sequence[int]
    seed: int
    endless: bool = False

    def blocks(self, name: str, shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
        """The float32 values of one tensor, in blocks of whole rows (axis 0) of at most about `BLOCK_VALUES` values."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        mean, std = _mean_and_std(name, shape)
        rows_at_once = max(1, BLOCK_VALUES // math.prod(shape[1:]))
        for first_row in range(0, shape[0], rows_at_once):
            rows = min(rows_at_once, shape[0] - first_row)
            block = torch.empty(rows, *shape[1:]).normal_(mean, std, generator=generator)
            self._let_turns_end(name, block, first_row)
            yield block

    def _let_turns_end(self, name: str, block: torch.Tensor, first_row: int) -> None:
        """Change a block of tensor `name`, which begins at row `first_row`, in place."""
        config, has_row_0 = self.config, first_row == 0
        if self.endless and not name.startswith("codec_model."):
            return
        if name == "thinker.lm_head.weight":
            gain = torch.full((config.thinker.vocab_size,), SILENT_GAIN)
            gain[list(self.words)] = 1.0
            gain[config.tokens.im_end] = IM_END_GAIN
            block *= gain[first_row : first_row + len(block), None]
        elif name == "backbone.codebook0_head.weight":
            if first_row <= config.codebook_eos < first_row + len(block):
                block[config.codebook_eos - first_row] *= EOS_GAIN
        elif name.endswith("embed_audio_tokens.weight"):
            block[:, 0] = 0
            rows = torch.arange(first_row, first_row + len(block))
            is_eos = rows % config.code_vocab_size == config.codebook_eos
            block[is_eos] = 0
            block[is_eos, 0] = AUDIO_TABLE_STD * math.sqrt(config.audio_width)
        elif name == "decoder.projection.weight":
            block[:, 0] = 0
            if has_row_0:
                block[0] = 0
                block[0, 0] = 1
        elif name.startswith("decoder.model.") and name.endswith(("o_proj.weight", "down_proj.weight")):
            if has_row_0:
                block[0] = 0
        elif name == "decoder.codebook_head.weight":
            block[:, 0, config.codebook_eos] = EOS_HEAD_WEIGHT
        elif name == "codec_model.downsample.conv.weight" or (
            name.startswith("codec_model.decoder.") and name.endswith("conv.weight") and block.shape[0] == 1
        ):
            block -= block.mean(
                dim=2, keepdim=True
            )  # a constant input gives 0: no offset of the sound, and not one code for all


def _mean_and_std(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if name.endswith((".initialized", ".cluster_usage")):
        return 1.0, 0.0
    if name.endswith("_layer_scale.scale"):
        return 0.5, 0.0
    if name.endswith(".embed_sum"):
        return 0.0, 1.0
    if name.endswith(".bias"):
        return 0.0, 0.0 if shape == (1,) else 0.02  # the bias of the codec's last layer would be an offset of the sound
    if len(shape) == 1:  # the weights of norms
        return 1.0, 0.0
    if name.endswith("embed_audio_tokens.weight"):
        return 0.0, AUDIO_TABLE_STD
    if name.endswith("embed_tokens.weight"):
        return 0.0, 1.0
    if name == "decoder.codebook_head.weight":
        return 0.0, 0.9 / math.sqrt(shape[1])
    if name.startswith("codec_model.") and len(shape) == 3:
        return 0.0, _codec_gain(name, shape) / math.sqrt(_conv_inputs(name, shape))
    return 0.0, 0.9 / math.sqrt(math.prod(shape[1:]))


def _codec_gain(name: str, shape: tuple[int, ...]) -> float:
    """The gain of a convolution of the codec. Speech has a tenth of full scale at its input and at its output."""
    if shape[1] == 1 and name.startswith("codec_model.encoder."):
        return CODEC_FIRST_GAIN
    if shape[0] == 1 and name.startswith("codec_model.decoder."):
        return CODEC_LAST_GAIN
    return CODEC_GAIN


def _conv_inputs(name: str, shape: tuple[int, ...]) -> int:
    """Values in the sum of one output. The kernel of a transposed convolution of the codec has twice its stride."""
    if name == "codec_model.upsample.conv.weight":
        return 2 * shape[1]
    if name.startswith("codec_model.decoder.") and shape[2] % 2 == 0:
        return 2 * shape[0]
    return shape[1] * shape[2]
