"""`python -m bench.gpu.memory`: the memory of a GPU that the whole model takes, computed from a checkpoint's shapes.

It counts what the three services keep there: weights, and keys and values of all streams. Text embeddings are in the
memory of the host. The codec's state of a stream (9 MB), the working memory of a step and the CUDA context of each
process (a few hundred MB) come on top; `make bench-gpu` measures with them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import get_args

from rich.console import Console
from rich.table import Table

from checkpoints.presets import preset_config
from checkpoints.tensor_names import Shapes, expected_tensors
from services.runtime.checkpoint.config import ChromaConfig, StackConfig
from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.checkpoint.quantized_layout import Quantization, is_matrix, parts_of

STREAMS = (2, 16)
POSITIONS = 2048
"""Positions of thinker and backbone for which each stream has memory."""
WEIGHT_BYTES = 2
"""Bytes of a weight in bfloat16."""
CODEC_BYTES = 4

_PARTS = {
    "thinker": ("thinker.model.layers.", "thinker.model.norm.", "thinker.lm_head."),
    "audio tower": ("thinker.audio_tower.",),
    "backbone": ("backbone.model.", "backbone.codebook0_head.", "backbone.audio_embedding."),
    "depth decoder": ("decoder.model.", "decoder.projection.", "decoder.codebook_head."),
    "codec": ("codec_model.",),
}


def device_bytes(
    config: ChromaConfig, weights: WeightFormat, streams: int, positions: int = POSITIONS
) -> dict[str, int]:
    """Bytes of each part. `weights` holds for the matrices of linear layers; the rest, and "as-stored", is bfloat16."""
    shapes = expected_tensors(config)
    sizes = {
        part: sum(tensor_bytes(name, shapes, weights) for name in shapes if name.startswith(prefixes))
        for part, prefixes in _PARTS.items()
    }
    code_rows = (config.codebooks - 1) * config.code_vocab_size * config.decoder.width * WEIGHT_BYTES
    sizes["depth decoder"] += code_rows  # the projection of every code, computed once
    sizes["keys and values"] = streams * sum(
        min(positions, stack.max_positions) * _position_bytes(stack) for stack in (config.thinker.text, config.backbone)
    )
    return sizes


def tensor_bytes(name: str, shapes: Shapes, weights: WeightFormat) -> int:
    """Bytes of the tensor `name` in this format. "as-stored" is bfloat16; the codec is float32."""
    size = CODEC_BYTES if name.startswith("codec_model.") else WEIGHT_BYTES
    shape = shapes[name]
    if weights == "as-stored" or not is_matrix(name):
        return math.prod(shape) * size
    inputs = shape[1]  # of the codebook heads too, which are stored as [codebooks, inputs, outputs]
    parts = parts_of(name, math.prod(shape) // inputs, inputs, Quantization(8 if weights == "int8" else 4, 0, "", ""))
    return sum(math.prod(part) * dtype.itemsize for dtype, part in parts.values())


def _position_bytes(stack: StackConfig) -> int:
    return 2 * stack.layers * stack.kv_heads * stack.head_dim * WEIGHT_BYTES


def memory_table(config: ChromaConfig, streams: Sequence[int], positions: int) -> Table:
    """GB of each part in each format, and the sums for each number of streams."""
    formats: tuple[WeightFormat, ...] = get_args(WeightFormat)
    table = Table("GB", *("bfloat16" if each == "as-stored" else each for each in formats))
    one = [device_bytes(config, each, 1, positions) for each in formats]
    for part in one[0]:
        name = f"{part} of one stream" if part == "keys and values" else part
        table.add_row(name, *(f"{sizes[part] / 1e9:.2f}" for sizes in one))
    for count in streams:
        sums = [sum(device_bytes(config, each, count, positions).values()) for each in formats]
        table.add_row(f"all, {count} streams", *(f"{total / 1e9:.2f}" for total in sums))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--positions", type=int, default=POSITIONS)
    read = parser.parse_args()
    Console(width=100).print(memory_table(ChromaConfig.from_dict(preset_config("full")), read.streams, read.positions))


if __name__ == "__main__":
    main()
