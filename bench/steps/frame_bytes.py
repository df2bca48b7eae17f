"""`python -m bench.steps.frame_bytes`: bytes of weights that a stream's frame reads, and the memory rate it needs.

A frame of 80 ms reads the backbone once, the depth decoder's layers seven times, half of the thinker (a thought serves
two frames), and the codec's decoder. `--copy-rate` is what bench.stack.smoke_full measures on a machine, and
`--seconds-a-frame` what a frame takes there.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import get_args

from rich.console import Console
from rich.table import Table

from bench.gpu.memory import tensor_bytes
from checkpoints.presets import preset_config
from checkpoints.tensor_names import expected_tensors
from services.common.wire.audio import CODEBOOKS, FRAME_S
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.quantized import WeightFormat

READS: Mapping[str, Mapping[str, float]] = {
    "backbone": {"backbone.model.": 1, "backbone.codebook0_head.": 1},
    "depth decoder": {
        "decoder.model.": CODEBOOKS - 1,
        "decoder.projection.": 1,
        "decoder.codebook_head.": 1,
    },
    "thinker": {"thinker.model.layers.": 0.5, "thinker.model.norm.": 0.5, "thinker.lm_head.": 0.5},
    "codec": {"codec_model.decoder.": 1, "codec_model.decoder_transformer.": 1},
}
"""How often a frame reads the tensors below each prefix."""


def frame_bytes(config: ChromaConfig, weights: WeightFormat) -> dict[str, float]:
    """Bytes that a frame reads of each part. "as-stored" is bfloat16; the codec is float32."""
    shapes = expected_tensors(config)
    return {
        part: sum(
            tensor_bytes(name, shapes, weights) * times
            for prefix, times in prefixes.items()
            for name in shapes
            if name.startswith(prefix)
        )
        for part, prefixes in READS.items()
    }


def needed_rate(read_bytes: float, copy_rate: float | None = None, seconds_a_frame: float | None = None) -> float:
    """Bytes a second of a memory on which a frame takes at most 80 ms.

    Without measurements this is the limit: nothing but reading. With them, a frame is taken to use the same share of
    another memory's rate as of this one's.
    """
    if copy_rate is None or seconds_a_frame is None:
        return read_bytes / FRAME_S
    return copy_rate * seconds_a_frame / FRAME_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full")
    parser.add_argument("--copy-rate", type=float, help="GB/s, of this machine")
    parser.add_argument("--seconds-a-frame", type=float, nargs=3, help="as stored, int8, int4; 0: not measured")
    options = parser.parse_args()
    config = ChromaConfig.from_dict(preset_config(options.preset))
    formats: tuple[WeightFormat, ...] = get_args(WeightFormat)
    of_format = [frame_bytes(config, each) for each in formats]
    table = Table("GB a frame", *("bfloat16" if each == "as-stored" else each for each in formats))
    for part in READS:
        table.add_row(part, *(f"{parts[part] / 1e9:.2f}" for parts in of_format))
    totals = [math.fsum(parts.values()) for parts in of_format]
    table.add_row("all", *(f"{total / 1e9:.2f}" for total in totals))
    table.add_row("GB/s for 80 ms, at least", *(f"{needed_rate(total) / 1e9:.0f}" for total in totals))
    if options.copy_rate and options.seconds_a_frame:
        measured = zip(totals, options.seconds_a_frame, strict=True)
        rates = [needed_rate(total, options.copy_rate * 1e9, taken_s) / 1e9 for total, taken_s in measured]
        table.add_row("GB/s of copies, from the measured time", *(f"{rate:.0f}" if rate else "" for rate in rates))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
