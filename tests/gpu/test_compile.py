"""Every kernel compiles for GPUs that this machine does not have, and fits their shared memory."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kernels import NEEDS_KERNELS

pytestmark = [NEEDS_KERNELS, pytest.mark.slow]

DESKTOP_SHARED_BYTES = 99 * 1024
"""Shared memory of a block on compute capability 8.6 and 8.9, the least of those that we compile for."""
MOST_SPILLED_BYTES = 512
"""Registers that a thread may spill. More would cost more than the kernel saves."""


def kernels_in(folder: Path) -> set[str]:
    """The names of the kernels in `services`: functions of Triton that other functions launch."""
    trees = {path: ast.parse(path.read_text()) for path in folder.rglob("*.py")}
    defined = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any("jit" in ast.unparse(each) for each in node.decorator_list)
    }
    launched = {
        node.func.value.id
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript) and isinstance(node.func.value, ast.Name)
    }
    return defined & launched


@pytest.mark.timeout(1500)  # it compiles for a minute, longer beside other tests
@pytest.mark.parametrize("capability", [89, 90])
def test_every_kernel_compiles_for(capability: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-m", "tests.support.compiled_kernels", str(capability)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    compiled = [json.loads(line) for line in run.stdout.splitlines()]
    assert {each["kernel"] for each in compiled} == kernels_in(Path("services"))
    for each in compiled:
        assert each["shared"] <= DESKTOP_SHARED_BYTES, each
        assert each["spilled"] <= MOST_SPILLED_BYTES, each
    frames = [each["narrow"] for each in compiled if each["kernel"] == "frame_kernel"]
    assert frames[0] <= 1, "weights of 16 bits are not read 16 bytes at a time"  # whether a stream is greedy has a byte
