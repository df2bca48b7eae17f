"""What the product kernels share: the norm of some rows, pairs of columns, the gate."""

# pyright: reportArgumentType=false

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.support.kernels import DEVICE, NEEDS_KERNELS, noise

pytestmark = NEEDS_KERNELS


@pytest.mark.parametrize(("columns", "first_row"), [(40, 0), (3000, 2)])
def test_the_norm_of_some_rows_is_of_the_joined_residual(columns: int, first_row: int) -> None:
    """Of 3,000 columns, two rows are read at once."""
    from tests.support.tile_kernels import norm_kernel

    x, parts = noise(1, 7, columns), noise(2, 2, 7, columns)
    total, found = torch.zeros_like(x), torch.zeros(16, device=DEVICE)
    norm_kernel[(1,)](x, parts, total, found, first_row, 5, 7, K=columns, JOINED=2, ROWS=16)
    expected = x + parts.sum(dim=0)
    rows = slice(first_row, first_row + 5)
    torch.testing.assert_close(total[rows], expected[rows])
    assert not total[first_row + 5 :].any()
    torch.testing.assert_close(found[:5], (expected[rows].square().mean(dim=1) + 1e-5).rsqrt())


def test_a_pair_is_two_columns_of_one_head() -> None:
    from tests.support.tile_kernels import pair_kernel

    found = torch.zeros(4, 16, dtype=torch.int32, device=DEVICE)
    pair_kernel[(1,)](found, 1, N=30, HALF=6, WIDTH=16)
    inside, head, i, wide = (row.tolist() for row in found)
    assert inside == [1] * 14 + [0] * 2
    assert head[:14] == [2, 2, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4]
    assert i[:14] == [4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
    assert wide[:14] == [12 * one + other for one, other in zip(head[:14], i[:14], strict=True)]


def test_the_gate_rounds_as_pytorch_rounds() -> None:
    from tests.support.tile_kernels import gate_kernel

    gate, up = noise(1, 16), noise(2, 16)
    found = torch.zeros(16, device=DEVICE)
    gate_kernel[(1,)](gate, up, found, WIDTH=16)
    expected = F.silu(gate.half()) * up.half()
    torch.testing.assert_close(found.half(), expected, rtol=2e-3, atol=1e-4)
