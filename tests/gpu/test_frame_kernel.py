"""The depth decoder's kernel on a CUDA device, where its programs run at once: every run gives the same bits."""

from __future__ import annotations

import pytest
import torch

from services.speech_gen.model.depth_decoder import DepthDecoder
from services.speech_gen.model.depth_way import compare_ways
from tests.support.depth import decoder_of, frame_inputs
from tests.support.kernels import NEEDS_KERNELS

pytestmark = [
    pytest.mark.gpu,
    NEEDS_KERNELS,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

RUNS = 300


@pytest.fixture(scope="module")
def decoder() -> DepthDecoder:
    """A decoder with more tasks in a stage than a device has room for programs."""
    return decoder_of(8, layers=4, heads=8, head_dim=128, width=1024, ffn=8192, dtype=torch.bfloat16, streams=20)


@pytest.mark.parametrize("streams", [1, 4])
def test_every_run_and_a_launch_for_each_stage_give_the_same_bits(decoder: DepthDecoder, streams: int) -> None:
    from services.speech_gen.model.depth_frame import DepthFrame

    frame = DepthFrame(decoder.stack, decoder.heads, decoder.code_rows, *decoder.rotary, streams=4)
    hidden, codes, choices = frame_inputs(decoder, streams, drawn=True)
    with torch.inference_mode():
        projected = decoder.projection(hidden)
        frame.staged = True
        frame(projected, codes, choices)
        expected, first = frame.logits.clone(), codes.clone()
        frame.staged = False
        for _ in range(RUNS):
            frame(projected, codes, choices)
            assert frame.logits.equal(expected)
            assert codes.equal(first)


def test_the_kernel_is_right_in_one_launch(decoder: DepthDecoder) -> None:
    compare_ways(decoder, timed_ms=lambda step: 1.0)
    assert decoder.frame is not None
    assert not decoder.frame.staged
    assert decoder.frame_streams == 16
