"""The depth decoder's attention as a kernel equals PyTorch's operations, over all seven forwards of a frame."""

from __future__ import annotations

import pytest
import torch

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.speech_gen.model import depth_decoder
from tests.support.kernels import DEVICE, HALF, NEEDS_KERNELS, noise

pytestmark = NEEDS_KERNELS


@pytest.mark.parametrize(("streams", "heads", "kv_heads", "head_dim"), [(1, 8, 2, 16), (3, 6, 2, 12)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (HALF, 1.5e-2)])
def test_seven_forwards_of_a_frame(
    streams: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = StackConfig(2, 48, heads, kv_heads, head_dim, 80, 1e-6, False, RopeConfig(theta=1e4), 33)
    ours, theirs = (depth_decoder._Frame(config, 8, 5, dtype, torch.device(DEVICE)) for _ in range(2))
    for codebook in range(1, 8):
        rows = streams * (2 if codebook == 1 else 1)
        for layer in range(2):
            qkv = noise(10 * codebook + layer, rows, heads + 2 * kv_heads, head_dim).to(dtype)
            found = []
            for frame, kernels in ((theirs, False), (ours, True)):
                monkeypatch.setattr(depth_decoder, "uses_kernels", lambda x, kernels=kernels: kernels)
                frame.turn_to(codebook, streams)
                found.append(frame.attend(layer, qkv))
            torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours._k, theirs._k, rtol=tolerance, atol=tolerance)
    assert ours._v.equal(theirs._v)
