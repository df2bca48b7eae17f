"""The kernel of queries, keys and values equals the product, the rotation and the writes one after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.layers.kernel_weight import KernelWeight
from services.runtime.layers.rope import rotate, whole_angles
from services.runtime.layers.transformer import KVPlaces
from tests.support.kernels import DEVICE, HALF, NEEDS_KERNELS, noise

pytestmark = NEEDS_KERNELS

EPS = 1e-5
COLUMNS, HEADS, KV_HEADS, HEAD_DIM = 160, 6, 2, 12
ROWS_OF_WEIGHT = (HEADS + 2 * KV_HEADS) * HEAD_DIM


def places_of(rows: int, dtype: torch.dtype) -> KVPlaces:
    """Rows at scattered positions and places of 40, in pages of four."""
    angles = noise(7, 30, HEAD_DIM // 2)
    positions, places = (torch.randperm(30, generator=torch.Generator().manual_seed(seed))[:rows] for seed in (1, 2))
    keys, values = (torch.zeros(10, 4, KV_HEADS, HEAD_DIM, dtype=dtype, device=DEVICE) for _ in range(2))
    return KVPlaces(angles.cos(), angles.sin(), positions.to(DEVICE), places.to(DEVICE), keys, values)


def expected_of(x: Tensor, norm: Tensor, matrix: KernelWeight, places: KVPlaces) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries [R, HEADS, HEAD_DIM], and all places of keys and of values [40, KV_HEADS, HEAD_DIM]."""
    normed = F.rms_norm(x.float(), (x.shape[1],), norm.float(), EPS).to(x.dtype)
    qkv = F.linear(normed, matrix.data, matrix.bias).view(len(x), -1, HEAD_DIM)
    angles = whole_angles(*(table.index_select(0, places.positions) for table in (places.cos, places.sin)))
    rotated = rotate(qkv[:, : HEADS + KV_HEADS], *angles)
    keys, values = (torch.zeros_like(each).flatten(0, 1) for each in (places.keys, places.values))
    keys[places.write_index], values[places.write_index] = rotated[:, HEADS:], qkv[:, HEADS + KV_HEADS :]
    return rotated[:, :HEADS], keys, values


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (HALF, 1e-2)])
@pytest.mark.parametrize("rows", [1, 19])
def test_it_normalises_multiplies_rotates_and_stores(rows: int, dtype: torch.dtype, tolerance: float) -> None:
    from services.runtime.layers.qkv_triton import rotated_queries

    x, norm, parts = noise(1, rows, COLUMNS).to(dtype), noise(2, COLUMNS).to(dtype), noise(3, 2, rows, COLUMNS)
    matrix = KernelWeight((noise(4, ROWS_OF_WEIGHT, COLUMNS) / 12).to(dtype), noise(5, ROWS_OF_WEIGHT).to(dtype))
    total = parts.sum(dim=0).to(dtype) + x
    places = places_of(rows, dtype)
    q, residual = rotated_queries(x, parts, norm, matrix, EPS, places)
    assert residual.equal(total)
    found = q, places.keys.flatten(0, 1), places.values.flatten(0, 1)
    for one, expected in zip(found, expected_of(total, norm, matrix, places), strict=True):
        torch.testing.assert_close(one, expected, rtol=tolerance, atol=tolerance)


def test_a_rows_result_does_not_depend_on_the_other_rows() -> None:
    from services.runtime.layers.qkv_triton import rotated_queries

    x, norm = noise(1, 30, COLUMNS).to(HALF), noise(2, COLUMNS).to(HALF)
    x[1:] *= 30
    matrix = KernelWeight((noise(4, ROWS_OF_WEIGHT, COLUMNS) / 12).to(HALF))
    found: list[tuple[Tensor, Tensor]] = []
    for company in (1, 16, 30):
        places = places_of(30, HALF)
        alone = places._replace(positions=places.positions[:company], write_index=places.write_index[:company])
        q, residual = rotated_queries(x[:company], None, norm, matrix, EPS, alone)
        assert residual.data_ptr() == x.data_ptr()
        found.append((q[0], places.keys.flatten(0, 1)[places.write_index[0]]))
    for q, key in found[1:]:
        assert q.equal(found[0][0])
        assert key.equal(found[0][1])
    assert found[0][1].any()
