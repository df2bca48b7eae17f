"""The depth decoder's kernel chooses the codes that a pass of the stack for each codebook chooses.

On a CPU, Triton's interpreter runs a launch's programs one after the other. So tests also run the tasks of each stage
in another order: a task must not read what another task of its stage writes.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.layers import linear, quantized_cuda
from services.speech_gen.model.depth_decoder import DepthDecoder
from services.speech_gen.model.sampling import choose
from tests.support.depth import decoder_of, frame_inputs, teacher_forced
from tests.support.kernels import HALF, NEEDS_KERNELS

pytestmark = [NEEDS_KERNELS, pytest.mark.usefixtures("rows_of_weights")]


@pytest.fixture
def rows_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights lie in rows, as on CUDA."""
    monkeypatch.setattr(linear, "_can_pack", lambda weight: False)


def frame_of(decoder: DepthDecoder) -> Any:
    from services.speech_gen.model.depth_frame import DepthFrame

    return DepthFrame(decoder.stack, decoder.heads, decoder.code_rows, *decoder.rotary, streams=4)


def logits_of(frame: Any, codes: Tensor) -> Tensor:
    """The kernel's logits [K - 1, W, V] of its last frame."""
    streams, codebooks = codes.shape
    vocab = len(frame.logits) // (codebooks - 1) // frame.streams
    return frame.logits[: (codebooks - 1) * streams * vocab].view(codebooks - 1, streams, vocab)


def check(decoder: DepthDecoder, streams: int, tolerance: float) -> None:
    """The kernel's logits are near PyTorch's for the same codes, and its codes are those that its logits give."""
    frame = frame_of(decoder)
    hidden, codes, choices = frame_inputs(decoder, streams, drawn=True)
    with torch.inference_mode():
        frame(decoder.projection(hidden), codes, choices)
        expected = teacher_forced(decoder, hidden, codes)
    found = logits_of(frame, codes)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for codebook, logits in enumerate(found, 1):
        assert choose(logits, choices, codebook).equal(codes[:, codebook])
    assert bool(choices.finite.all())
    assert frame.sync.tolist() == [sum(frame.stages(streams))] * 2


def test_one_layer_and_two_codebooks_of_one_stream() -> None:
    check(decoder_of(2), streams=1, tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (HALF, 5e-2)])
def test_a_frame_of_streams_that_draw_and_streams_that_do_not(dtype: torch.dtype, tolerance: float) -> None:
    """Several tiles and partial sums, heads of a size that is no power of two, and more than one layer."""
    decoder = decoder_of(3, layers=2, heads=3, head_dim=12, width=40, ffn=1056, dtype=dtype)
    assert decoder.stack.config.layers == 2
    check(decoder, streams=3, tolerance=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_weights_in_fewer_bits(bits: WeightFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    decoders: list[DepthDecoder] = []
    for kernels in (False, True):
        monkeypatch.setattr(quantized_cuda, "kernel_is_right", lambda *given, kernels=kernels: kernels)
        monkeypatch.setattr(linear, "quantized_product", quantized_cuda.QuantizedProduct)
        decoders.append(decoder_of(3, heads=4, head_dim=32, width=96, ffn=96, weights=bits))
    frame = frame_of(decoders[1])
    hidden, codes, choices = frame_inputs(decoders[1], 2)
    with torch.inference_mode():
        frame(decoders[1].projection(hidden), codes, choices)
        expected = teacher_forced(decoders[0], hidden, codes)
    torch.testing.assert_close(logits_of(frame, codes), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_order_of_the_tasks_of_a_stage_changes_nothing() -> None:
    decoder = decoder_of(3, layers=2, width=40, ffn=1056)
    frame, dice = frame_of(decoder), random.Random(1)
    hidden, codes, choices = frame_inputs(decoder, 2, drawn=True)
    shuffled = codes.clone()
    with torch.inference_mode():
        frame(decoder.projection(hidden), codes, choices)
        expected = frame.logits.clone()
        frame.fill(decoder.projection(hidden), shuffled)
        begin = 0
        for tasks in frame.stages(2):
            order = list(range(begin, begin + tasks))
            dice.shuffle(order)
            for ticket in order:
                frame.sync.copy_(torch.tensor([ticket, begin]))
                frame.launch(1, shuffled, choices)
            begin += tasks
    assert shuffled.equal(codes)
    assert frame.logits.equal(expected)


@pytest.mark.slow
def test_a_launch_for_each_stage_equals_one_launch() -> None:
    decoder = decoder_of(3, layers=2)
    frame = frame_of(decoder)
    hidden, codes, choices = frame_inputs(decoder, 3, drawn=True)
    with torch.inference_mode():
        frame(decoder.projection(hidden), codes, choices)
        expected, staged = frame.logits.clone(), codes.clone()
        frame.staged = True
        frame(decoder.projection(hidden), staged, choices)
    assert staged.equal(codes)
    assert frame.logits.equal(expected)


@pytest.mark.slow
def test_a_stream_alone_and_in_company_has_the_same_logits_bit_for_bit() -> None:
    decoder = decoder_of(3, layers=2, dtype=HALF)
    frame = frame_of(decoder)
    hidden, codes, choices = frame_inputs(decoder, 4)
    _, alone, choice = frame_inputs(decoder, 1)
    hidden[1:] *= 30
    with torch.inference_mode():
        frame(decoder.projection(hidden), codes, choices)
        together = logits_of(frame, codes)[:, 0].clone()
        frame(decoder.projection(hidden[:1]), alone, choice)
    assert logits_of(frame, alone)[:, 0].equal(together)
    assert alone[0].equal(codes[0])


@pytest.mark.parametrize("failed", [False, True])
def test_a_program_that_waits_in_vain_reports_values_that_are_no_numbers(
    failed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.speech_gen.model import depth_frame

    monkeypatch.setattr(depth_frame, "POLLS", 2)
    decoder = decoder_of(2)
    frame = frame_of(decoder)
    _, codes, choices = frame_inputs(decoder, 1)
    last = sum(frame.stages(1)) - 1
    frame.sync.copy_(torch.tensor([last, last - failed]))
    frame.launch(1, codes, choices)
    assert bool(choices.finite[0, 1]) is not failed
    assert (int(frame.sync[1]) > 1 << 28) is failed
