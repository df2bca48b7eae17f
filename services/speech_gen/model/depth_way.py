"""Whether the depth decoder computes a frame with its one kernel on CUDA, and in how many launches.

Three ways are compared at the start, on the device and with the loaded weights: PyTorch's products, one launch of the
kernel (depth_frame.py), and one launch for each stage of the kernel. The kernel is used for as many streams as it is
faster for than PyTorch's products, if it compiles on this device and computes the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from services.runtime.graphs.graphs import buckets
from services.runtime.graphs.timing import step_ms
from services.runtime.layers.fused_stack import use_fused_kernels
from services.speech_gen.model.depth_decoder import DepthDecoder, FrameChoice
from services.speech_gen.model.sampling import Choices, SamplingTable, choose

log = logging.getLogger(__name__)

MAX_STREAMS = 16
"""The kernel is never used for more streams."""

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}
"""Largest mean difference of the logits of both ways, as a share of their mean size."""

RUNS = 20
"""Further runs of the kernel, which must give the same bits."""

Timer = Callable[[Callable[[], object]], float]


def use_frame_kernel(decoder: DepthDecoder) -> None:
    """Let `decoder` use the kernel for the numbers of streams for which it is faster. Off CUDA it is like any stack."""
    if decoder.stack.device.type == "cuda":
        compare_ways(decoder)
    else:
        use_fused_kernels(decoder.stack)


@torch.inference_mode()
def compare_ways(decoder: DepthDecoder, *, timed_ms: Timer = step_ms) -> None:
    """Set `decoder.frame` and `decoder.frame_streams`: one launch if it is right and faster, else one for each stage.

    It logs the reason when a way is not used. `timed_ms` measures the milliseconds of a function.
    """
    try:
        from services.speech_gen.model.depth_frame import DepthFrame

        most = min(decoder.streams, MAX_STREAMS)
        frame = DepthFrame(decoder.stack, decoder.heads, decoder.code_rows, *decoder.rotary, streams=most)
    except Exception:
        log.exception("the kernel of the depth decoder is not used: it cannot read the weights")
        return
    for staged in (False, True):
        frame.staged = staged
        streams = streams_of(frame, decoder, timed_ms)
        if streams:
            decoder.frame, decoder.frame_streams = frame, streams
            return


def streams_of(frame: FrameChoice, decoder: DepthDecoder, timed_ms: Timer) -> int:
    """The largest number of streams for which `frame` is right and faster than PyTorch's products. 0: for none."""
    way = "one launch for each stage" if frame.staged else "one launch"
    most = 0
    try:
        for streams in buckets(frame.streams):
            hidden, codes, choices = _example(decoder, streams)
            frame(decoder.projection(hidden), codes, choices)
            difference = _difference(frame, decoder, hidden, codes, choices)
            if not difference <= TOLERANCES[decoder.stack.dtype]:  # a difference that is not a number fails too
                log.error(
                    "a frame's codes in %s: not used, they differ by %.3g for %d streams", way, difference, streams
                )
                return 0
            if not _repeats(frame, decoder, hidden, codes, choices):
                log.error("a frame's codes in %s: not used, %d streams have others in another run", way, streams)
                return 0
            plain_ms, frame_ms = (
                timed_ms(lambda step=step, given=(hidden, codes, choices): step(*given))
                for step in (decoder.choose_plainly, _through_projection(frame, decoder))
            )
            log.info("%d streams, a frame's codes: plain %.3f ms, %s %.3f ms", streams, plain_ms, way, frame_ms)
            if frame_ms > plain_ms:
                break
            most = streams
    except Exception:
        log.exception("a frame's codes in %s: used for up to %d streams, more cannot be computed", way, most)
    return most


def _through_projection(frame: FrameChoice, decoder: DepthDecoder) -> Callable[[Tensor, Tensor, Choices], None]:
    return lambda hidden, codes, choices: frame(decoder.projection(hidden), codes, choices)


def _example(decoder: DepthDecoder, streams: int) -> tuple[Tensor, Tensor, Choices]:
    """Random hidden states [W, D] and codes of codebook 0 for greedy streams."""
    device, codebooks = decoder.stack.device, len(decoder.heads) + 1
    noise = torch.Generator().manual_seed(0)
    hidden = torch.randn(streams, decoder.projection.in_features, generator=noise).to(device, decoder.stack.dtype)
    codes = torch.zeros(streams, codebooks, dtype=torch.int64, device=device)
    table = SamplingTable(streams, codebooks, device)
    uniforms = torch.rand(streams, codebooks, generator=noise).to(device)
    return hidden, codes, table.choices(torch.arange(streams, device=device), uniforms, 0)


def _repeats(frame: FrameChoice, decoder: DepthDecoder, hidden: Tensor, codes: Tensor, choices: Choices) -> bool:
    """Whether every further run gives the same bits: programs that do not wait for each other would show here."""
    logits, projected = frame.logits.clone(), decoder.projection(hidden)
    for _ in range(RUNS):
        frame(projected, codes, choices)
        if not frame.logits.equal(logits):
            return False
    return True


def _difference(frame: FrameChoice, decoder: DepthDecoder, hidden: Tensor, codes: Tensor, choices: Choices) -> float:
    """The mean difference of the kernel's logits from PyTorch's for the same codes, as a share of their mean size.

    It is infinite when the kernel's codes are not the likeliest ones of its logits.
    """
    streams, codebooks = codes.shape
    count = (codebooks - 1) * streams
    found = frame.logits[: count * decoder.heads[0].out_features].view(codebooks - 1, streams, -1)
    plain = [decoder.logits(codebook, hidden, codes[:, codebook - 1]) for codebook in range(1, codebooks)]
    chosen = [choose(logits, choices, codebook) for codebook, logits in enumerate(found, 1)]
    if not torch.stack(chosen, dim=1).equal(codes[:, 1:]):
        return float("inf")
    expected = torch.stack(plain)
    return float((found - expected).abs().mean() / expected.abs().mean())
