"""Compiles the Triton kernels for a GPU on a machine without one, and prints what each of them needs.

Run it as `python -m tests.support.compiled_kernels CAPABILITY`, such as 90 for an H100, without Triton's interpreter.
It calls the functions that launch kernels, with tensors of the published model's shapes. Launches only compile. It
prints a line of JSON for each kernel: its name, its shared memory in bytes, the registers of a thread, the bytes of
registers that spill, and the number of loads of 1 or 2 bytes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.kvcache.attention_triton import attend_blocks, rotate_and_store
from services.runtime.layers import early_launch
from services.runtime.layers.fused_triton import add_norm, silu_mul
from services.runtime.layers.kernel_weight import KernelWeight
from services.runtime.layers.linear import Linear
from services.runtime.layers.product_triton import join_norm, norm_product, partial_product, product
from services.runtime.layers.qkv_triton import rotated_queries
from services.runtime.layers.transformer import KVPlaces, Layer, Stack
from services.speech_gen.model.depth_attention_triton import attend_places
from services.speech_gen.model.depth_frame import DepthFrame
from services.speech_gen.model.sampling import SamplingTable
from services.speech_gen.model.sampling_triton import choose_codes

PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
DTYPE = torch.bfloat16


class NoDevice:
    """Triton's driver for a device that is not there."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def needs_of(kernel: Any, capability: int) -> dict[str, int]:
    """Shared memory, registers, spills, and loads of 1 or 2 bytes of a compiled kernel."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(kernel.asm["ptx"])
        suffix = "a" if capability >= 90 else ""
        command = [PTXAS, "-v", f"--gpu-name=sm_{capability}{suffix}", source, "-o", source.with_suffix(".o")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    spilled = re.search(r"(\d+) bytes spill stores", said)
    assert registers is not None, said
    assert spilled is not None, said
    narrow = len(re.findall(r"ld\.global[a-z.]*\.[bsu](?:8|16)\b", kernel.asm["ptx"]))
    needed = {"shared": kernel.metadata.shared, "registers": int(registers[1]), "spilled": int(spilled[1])}
    return {**needed, "narrow": narrow}


def compile_only(capability: int) -> None:
    """Make every later launch of a kernel compile it and print what it needs."""
    launch = JITFunction.run
    early_launch.begins_early = lambda device: capability >= 90
    vars(driver)["_active"] = NoDevice(capability)

    def compiled(self: Any, *given: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = launch(self, *given, grid=grid, warmup=True, **options)
        shape = [int(value) for value in grid if isinstance(value, int)]
        print(json.dumps({"kernel": self.__name__, "grid": shape, **needs_of(kernel, capability)}), flush=True)
        return kernel

    JITFunction.run = compiled


def empty(*shape: int, dtype: torch.dtype = DTYPE) -> Tensor:
    return torch.empty(shape, dtype=dtype)


def matrices(rows: int, columns: int, *, bias: bool = False) -> Iterator[KernelWeight]:
    """A weight as floats, in 8 bits, and in 4 bits with groups of 64."""
    offset = empty(rows) if bias else None
    yield KernelWeight(empty(rows, columns), offset)
    yield KernelWeight(
        empty(rows, columns, dtype=torch.int8), offset, empty(rows, 1, dtype=torch.float32), None, 8, columns, columns
    )
    scales = empty(rows, columns // 64)
    yield KernelWeight(empty(rows, columns // 2, dtype=torch.uint8), offset, scales, scales, 4, columns, 64)


def launch_all() -> None:
    """Launch the kernels of a step with one stream, of one with many, and of a prompt."""
    for rows in (1, 32):
        x, norm, parts = empty(rows, 2048), empty(2048), empty(2, rows, 2048, dtype=torch.float32)
        indices, angles = empty(rows, dtype=torch.int64), empty(64, 64, dtype=torch.float32)
        places = KVPlaces(angles, angles, indices, indices, empty(40, 16, 2, 128), empty(40, 16, 2, 128))
        for matrix in matrices(2560, 2048, bias=True):  # the thinker's q, k and v
            rotated_queries(x, parts, norm, matrix, 1e-6, places)
        for matrix in matrices(22016, 2048):  # and its gate and up
            norm_product(x, parts, norm, matrix, 1e-6, gated=True)
        for matrix in matrices(2048, 11008):
            partial_product(empty(rows, 11008), matrix)
        for matrix in matrices(2048, 2048):
            product(x, matrix, out_dtype=torch.float32)
        join_norm(x, parts, norm, 1e-5)
        add_norm(x, x, norm, 1e-5)
        silu_mul(empty(rows, 16384))
        attend_places(
            empty(rows, 12, 128), empty(8, rows, 2, 128), empty(8, rows, 2, 128),
            empty(8, 1, 64, dtype=torch.float32), empty(8, 1, 64, dtype=torch.float32), first=3, count=1,
        )  # fmt: skip
        choose_codes(
            empty(rows, 2048, dtype=torch.float32), empty(rows, dtype=torch.bool),
            empty(rows, 1, dtype=torch.float32), empty(rows, 1, dtype=torch.int64), empty(rows, 1, dtype=torch.float32),
            empty(rows, 8, dtype=torch.float32), empty(rows, 8, dtype=torch.bool), 1,
        )  # fmt: skip
    for matrix in matrices(16384, 2048):
        product(empty(256, 2048), matrix)
    keys, angles, tables = empty(40, 16, 2, 128), empty(64, 64, dtype=torch.float32), empty(1, 8, dtype=torch.int64)
    blocks = empty(1, 4, dtype=torch.int64)
    arrivals = empty(8, dtype=torch.int32)
    for rows, parts in ((1, 4), (8, 1)):
        indices = empty(rows, dtype=torch.int64)
        rotate_and_store(empty(rows, 20, 128), angles, angles, indices, indices, keys, keys)
        attend_blocks(empty(rows, 16, 128), keys, keys, tables, blocks, arrivals, block_rows=rows, parts=parts)
    kinds = zip(*(matrices(*shape) for shape in DEPTH_SHAPES), strict=True)
    for streams, weights in zip((16, 1, 16), kinds, strict=True):
        depth_frame(streams, *weights)


DEPTH_SHAPES = ((1536, 1024), (1024, 1024), (16384, 1024), (1024, 8192), (2048, 1024))


class Weight:
    """A linear layer of which only the weight is there."""

    def __init__(self, weight: KernelWeight) -> None:
        self.kernel_weight = weight


def depth_frame(streams: int, *weights: KernelWeight) -> None:
    """Launch the kernel of a frame's codebooks 1 to 7, in the published model's shapes. One layer is enough."""
    qkv, out, gate_up, down, head = (cast("Linear", Weight(weight)) for weight in weights)
    config = StackConfig(1, 1024, 8, 2, 128, 8192, 1e-5, False, RopeConfig(theta=5e5), 33)
    stack = Stack(config, [Layer(empty(1024), qkv, out, empty(1024), gate_up, down)], empty(1024))
    angles = empty(8, 1, 64, dtype=torch.float32)
    frame = DepthFrame(stack, [head] * 7, empty(7, 2051, 1024), angles, angles, streams=16)
    slots, uniforms = torch.arange(streams), empty(streams, 8, dtype=torch.float32)
    choices = SamplingTable(streams, 8, "cpu").choices(slots, uniforms, 2048)
    frame(empty(streams, 1024), torch.zeros(streams, 8, dtype=torch.int64), choices)


if __name__ == "__main__":
    compile_only(int(sys.argv[1]))
    launch_all()
