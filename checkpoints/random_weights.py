"""Seeded random weights with which a whole turn can be run: text of English words, an end, audible noise.

Every tensor is drawn from its own generator, seeded by the checkpoint's seed and the tensor's name, so a value depends
on neither order nor sharding. Matrices keep the size of what they multiply, as N(0, 0.02) does at the published width.

Left alone, random weights never end a turn. Three arrangements make them, by chance, after a few seconds:

- `thinker.lm_head`: only whole words and im_end have rows of full size, and im_end's is larger.
- `backbone.codebook0_head`: the row of the EOS code is larger.
- Coordinate 0 of the decoder means "the code before was the EOS code": only that code's embeddings have it, no layer
  writes it, and every head answers it with the EOS code. So an EOS in codebook 0 completes itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from services.runtime.checkpoint.config import ChromaConfig

BLOCK_VALUES = 1 << 22
"""Values drawn at once: bounds the memory that writing a checkpoint takes."""

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
    """The weights of one seed. `words` are the token ids that the thinker may say.

    `endless` leaves the first three arrangements out: turns of any length, for benchmarks.
    """

    config: ChromaConfig
    words: Sequence[int]
    seed: int
    endless: bool = False

    def blocks(self, name: str, shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
        """The float32 values of one tensor, in runs of whole rows (axis 0) of at most about `BLOCK_VALUES` values."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        mean, std = _mean_and_std(name, shape)
        rows_at_once = max(1, BLOCK_VALUES // math.prod(shape[1:]))
        for first_row in range(0, shape[0], rows_at_once):
            rows = min(rows_at_once, shape[0] - first_row)
            block = torch.empty(rows, *shape[1:]).normal_(mean, std, generator=generator)
            self._arrange(name, block, first_row)
            yield block

    def _arrange(self, name: str, block: torch.Tensor, first_row: int) -> None:
        """Edit rows `first_row` and on of tensor `name`, in place, so that turns end."""
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
            block -= block.mean(dim=2, keepdim=True)  # no answer to a constant: neither one code for all nor an offset


def _mean_and_std(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if name.endswith((".initialized", ".cluster_usage")):
        return 1.0, 0.0
    if name.endswith("_layer_scale.scale"):
        return 0.5, 0.0
    if name.endswith(".embed_sum"):
        return 0.0, 1.0
    if name.endswith(".bias"):
        return 0.0, 0.0 if shape == (1,) else 0.02  # the codec's last one would be an offset of the sound
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
    """Speech comes in at a tenth of full scale, and leaves at that."""
    if shape[1] == 1 and name.startswith("codec_model.encoder."):
        return CODEC_FIRST_GAIN
    if shape[0] == 1 and name.startswith("codec_model.decoder."):
        return CODEC_LAST_GAIN
    return CODEC_GAIN


def _conv_inputs(name: str, shape: tuple[int, ...]) -> int:
    """Values that one output of a convolution sums. The codec's transposed ones have kernels of twice their stride."""
    if name == "codec_model.upsample.conv.weight":
        return 2 * shape[1]
    if name.startswith("codec_model.decoder.") and shape[2] % 2 == 0:
        return 2 * shape[0]
    return shape[1] * shape[2]
