"""The kernel of a frame gets weights that it can read, and tasks for every stage."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import FailedPrecondition
from services.runtime.layers import linear
from services.runtime.layers.linear import Linear
from services.speech_gen.model.depth_decoder import DepthDecoder
from tests.support.depth import decoder_of, frame_inputs
from tests.support.kernels import NEEDS_KERNELS

pytestmark = NEEDS_KERNELS


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> DepthDecoder:
    monkeypatch.setattr(linear, "_can_pack", lambda weight: False)
    return decoder_of(3, layers=2, ffn=40)


def test_codebook_1_has_two_rows_of_each_stream(decoder: DepthDecoder) -> None:
    from services.speech_gen.model.depth_frame import DepthFrame

    frame = DepthFrame(decoder.stack, decoder.heads, decoder.code_rows, *decoder.rotary, streams=4)
    layer = [1, 1, 3, 1]  # pairs of columns, and columns, by 16
    first = [6, *layer[:2], 6, *layer[2:]] * 2 + [6, 2, 3]
    second = [3, *layer[:2], 3, *layer[2:]] * 2 + [3, 2, 3]
    assert list(frame.stages(3)) == first + second


def test_weights_in_different_layouts_are_refused(decoder: DepthDecoder) -> None:
    from services.speech_gen.model.depth_frame import DepthFrame

    heads = [decoder.heads[0], Linear(torch.zeros(20, 16), torch.zeros(20))]
    with pytest.raises(FailedPrecondition, match="different layouts, or a bias"):
        DepthFrame(decoder.stack, heads, decoder.code_rows, *decoder.rotary, streams=4)


def test_more_streams_than_there_is_memory_for_are_refused(decoder: DepthDecoder) -> None:
    from services.speech_gen.model.depth_frame import DepthFrame

    frame = DepthFrame(decoder.stack, decoder.heads, decoder.code_rows, *decoder.rotary, streams=2)
    hidden, codes, choices = frame_inputs(decoder, 3)
    with pytest.raises(AssertionError, match="at most 2 streams, got 3"):
        frame(hidden, codes, choices)
