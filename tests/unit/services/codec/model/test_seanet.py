"""The convolution stacks: shapes, and the state that they declare."""

from __future__ import annotations

import torch

from services.codec.model.convolution import ConvState
from services.codec.model.mimi import Mimi
from services.common.wire.audio import FRAME_SAMPLES


@torch.inference_mode()
def test_the_decoder_makes_960_samples_of_a_row_and_fills_the_state_it_declares(mimi: Mimi) -> None:
    stack = mimi.decoder._waveform
    width = mimi.decoder.new_state(1, 1).conv_rows.shape[1] - mimi.decoder._upsample.state_width
    assert stack.state_width == width
    state = ConvState(torch.zeros(2, stack.state_width), torch.ones(2, dtype=torch.bool))
    rows = torch.zeros(2, 3, stack._first._matrix.shape[1] // stack._first._kernel)
    assert stack(rows, state).shape == (2, 3 * FRAME_SAMPLES // 2)
    assert state.next_rows().shape == (2, stack.state_width)


@torch.inference_mode()
def test_the_encoder_makes_a_row_of_960_samples_and_pads_the_last_one(mimi: Mimi) -> None:
    stack = mimi.encoder._waveform
    for samples, rows in ((FRAME_SAMPLES, 2), (FRAME_SAMPLES // 2 + 1, 2), (1, 1)):
        state = ConvState(torch.zeros(1, stack.state_width), torch.ones(1, dtype=torch.bool))
        assert stack(torch.zeros(1, samples), state).shape[:2] == (1, rows)
        assert state.next_rows().shape == (1, stack.state_width)
