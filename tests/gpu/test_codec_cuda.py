"""The codec on a CUDA device gives the sound that it gives on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.codec.model.mimi import Mimi
from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.golden_checkpoint import golden_checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

GOLDEN = golden_checkpoint()


def test_decode_on_cuda_equals_the_cpu() -> None:
    codes = np.random.default_rng(1).integers(0, 2048, (200, 8))
    checkpoint = Checkpoint.open(GOLDEN)
    assert np.abs(Mimi.load(checkpoint, "cuda").decode(codes) - Mimi.load(checkpoint).decode(codes)).max() < 1e-4


def test_a_decode_step_can_be_captured_and_replayed() -> None:
    mimi = Mimi.load(Checkpoint.open(GOLDEN), "cuda")
    state = mimi.decoder.new_state(4, 1)
    slots = torch.tensor([2, 0], device="cuda")
    codes = torch.zeros(2, 1, 8, dtype=torch.int64, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            mimi.decoder.step(codes, slots, state)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pcm = mimi.decoder.step(codes, slots, state)
    state.reset(0)
    state.reset(2)
    frames = np.random.default_rng(2).integers(0, 2048, (2, 30, 8))
    parts: list[np.ndarray] = []
    for index in range(30):
        codes.copy_(torch.from_numpy(frames[:, index : index + 1]))
        graph.replay()
        parts.append(pcm.cpu().numpy().copy())
    for row in range(2):
        whole = mimi.decode(frames[row])
        assert np.abs(np.concatenate([part[row] for part in parts]) - whole).max() < 1e-4
