"""The depth decoder's kernel is used where it is right and faster; otherwise the log says why not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from services.speech_gen.model import depth_way
from services.speech_gen.model.depth_decoder import DepthDecoder
from services.speech_gen.model.depth_way import compare_ways, use_frame_kernel
from services.speech_gen.model.sampling import Choices
from tests.support.depth import CODES, decoder_of, teacher_forced
from tests.support.kernels import DEVICE, NEEDS_KERNELS

pytestmark = [NEEDS_KERNELS, pytest.mark.skipif(DEVICE != "cpu", reason="the kernel is faked")]


class PlainFrame:
    """A frame's "kernel" that computes as PyTorch does, except where a test spoils it."""

    spoiled: Callable[[PlainFrame], bool] = staticmethod(lambda frame: False)
    broken: Callable[[PlainFrame], bool] = staticmethod(lambda frame: False)

    def __init__(self, decoder: DepthDecoder, streams: int) -> None:
        self.staged, self.streams = False, streams
        self._decoder = decoder
        self.logits = torch.zeros(len(decoder.heads) * streams * CODES)

    def __call__(self, hidden: Tensor, codes: Tensor, choices: Choices) -> None:
        if self.broken(self):
            raise RuntimeError("ptxas failed")
        self._decoder.choose_plainly(hidden, codes, choices)
        logits = teacher_forced(self._decoder, hidden, codes) * (1.01 if self.spoiled(self) else 1.0)
        self.logits[: logits.numel()] = logits.flatten()


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> DepthDecoder:
    from services.speech_gen.model import depth_frame

    decoder = decoder_of(3, streams=4)
    decoder.projection = lambda hidden: hidden  # type: ignore[assignment]
    decoder.projection.in_features = 16  # type: ignore[attr-defined]
    monkeypatch.setattr(depth_frame, "DepthFrame", lambda *given, streams: PlainFrame(decoder, streams))
    return decoder


def ms_in_turn(*values: float) -> Callable[[Callable[[], object]], float]:
    """A clock that gives these milliseconds, for the plain way and the kernel in turn."""
    left = list(values)
    return lambda step: left.pop(0)


def test_the_kernel_is_used_for_the_streams_for_which_it_is_faster(decoder: DepthDecoder) -> None:
    compare_ways(decoder, timed_ms=ms_in_turn(3, 1, 3, 2, 3, 3.5))
    assert decoder.frame_streams == 2
    assert isinstance(decoder.frame, PlainFrame)
    assert not decoder.frame.staged


def test_the_kernel_that_is_slower_in_one_launch_may_be_faster_in_many(decoder: DepthDecoder) -> None:
    compare_ways(decoder, timed_ms=ms_in_turn(3, 4, 3, 2, 3, 2, 3, 2))
    assert decoder.frame_streams == 4
    assert isinstance(decoder.frame, PlainFrame)
    assert decoder.frame.staged


def spoil(monkeypatch: pytest.MonkeyPatch, name: str, when: Callable[[PlainFrame], bool]) -> None:
    monkeypatch.setattr(PlainFrame, name, staticmethod(when))


def test_a_kernel_that_computes_something_else_in_one_launch_is_tried_in_many(
    decoder: DepthDecoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(monkeypatch, "spoiled", lambda frame: not frame.staged)
    with caplog.at_level(logging.ERROR):
        compare_ways(decoder, timed_ms=ms_in_turn(3, 1, 3, 1, 3, 1))
    assert "in one launch: not used, they differ by 0.01 for 1 streams" in caplog.text
    assert decoder.frame_streams == 4


def test_a_kernel_that_computes_something_else_now_and_then_is_not_used(
    decoder: DepthDecoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = iter(range(1000))
    spoil(monkeypatch, "spoiled", lambda frame: not frame.staged and next(runs) == 3)
    with caplog.at_level(logging.ERROR):
        compare_ways(decoder, timed_ms=ms_in_turn(3, 1, 3, 1, 3, 1))
    assert "1 streams have others in another run" in caplog.text
    assert decoder.frame is not None
    assert decoder.frame.staged


def test_a_kernel_that_cannot_run_is_not_used(
    decoder: DepthDecoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(monkeypatch, "broken", lambda frame: True)
    compare_ways(decoder, timed_ms=ms_in_turn())
    assert (decoder.frame, decoder.frame_streams) == (None, 0)
    assert "ptxas failed" in caplog.text


def test_weights_that_the_kernel_cannot_read_are_logged(
    decoder: DepthDecoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from services.speech_gen.model import depth_frame

    def refuse(*given: Any, **options: Any) -> None:
        raise ValueError("a bias")

    monkeypatch.setattr(depth_frame, "DepthFrame", refuse)
    compare_ways(decoder, timed_ms=ms_in_turn())
    assert decoder.frame is None
    assert "cannot read the weights" in caplog.text


def test_off_cuda_nothing_is_compared(decoder: DepthDecoder) -> None:
    use_frame_kernel(decoder)
    assert (decoder.frame, decoder.frame_streams) == (None, 0)


def test_a_step_of_more_streams_is_computed_plainly(decoder: DepthDecoder) -> None:
    frames: list[int] = []

    class CountedFrame:
        staged, streams, logits = False, 2, torch.zeros(0)

        def __call__(self, hidden: Tensor, codes: Tensor, choices: Choices) -> None:
            frames.append(len(codes))

    decoder.frame, decoder.frame_streams = CountedFrame(), 2
    for streams in (1, 2, 3):
        hidden, codes, choices = depth_way._example(decoder, streams)
        decoder.choose(hidden, codes, choices)
    assert frames == [1, 2]
