"""The elementwise kernels of a layer equal PyTorch's operations, on a CUDA device or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.support.kernels import HALF, NEEDS_KERNELS, noise

pytestmark = NEEDS_KERNELS


@pytest.mark.parametrize("width", [48, 1000, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_add_norm_equals_adding_and_normalising(width: int, dtype: torch.dtype) -> None:
    from services.runtime.layers.fused_triton import add_norm

    added, residual = noise(1, 5, width).to(dtype), noise(2, 5, width).to(dtype)
    weight = noise(3, width).to(dtype)
    total = added + residual
    expected = F.rms_norm(total.float(), (width,), weight.float(), 1e-5).to(dtype)
    found_total, found = add_norm(added, residual, weight, 1e-5)
    assert found_total.equal(total)
    torch.testing.assert_close(found, expected, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-6)


@pytest.mark.parametrize("width", [80, 1024, 1664])
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_silu_mul_equals_silu_and_mul(width: int, dtype: torch.dtype) -> None:
    from services.runtime.layers.fused_triton import silu_mul

    gate_up = 4 * noise(1, 3, 2 * width).to(dtype)
    gate, up = gate_up.chunk(2, dim=-1)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(silu_mul(gate_up), F.silu(gate) * up, rtol=tolerance, atol=tolerance)
