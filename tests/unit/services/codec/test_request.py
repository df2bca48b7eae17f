"""The state of one stream: what it takes in, and when it is over."""

from __future__ import annotations

from typing import Any

import numpy as np

from services.codec.model.encode import EncodeStream
from services.codec.model.mimi import Mimi
from services.codec.request import DecodeRequest, EncodeRequest
from services.common.wire.audio import FRAME_SAMPLES


class Inbox:
    """A stream's input side."""

    def __init__(self, *inputs: np.ndarray) -> None:
        self.inbox, self.input_ended = list(inputs), False

    def take_input(self) -> np.ndarray:
        return self.inbox.pop(0)


def frames(count: int, code: int = 0) -> np.ndarray:
    return np.full((count, 8), code, dtype=np.uint16)


def test_a_decode_request_takes_in_no_more_than_a_step_needs(mimi: Mimi) -> None:
    request = DecodeRequest(0, 0.0, mimi.decoder.check_codes)
    stream: Any = Inbox(frames(2, 1), frames(2, 2), frames(2, 3))
    assert not request.take_in(stream, step_frames=3)
    assert len(stream.inbox) == 1
    assert request.take_frames(3)[:, 0].tolist() == [1, 1, 2]
    assert request.waiting[:, 0].tolist() == [2]


def test_a_decode_request_is_over_when_the_ended_input_is_decoded(mimi: Mimi) -> None:
    request = DecodeRequest(0, 0.0, mimi.decoder.check_codes)
    stream: Any = Inbox(frames(1))
    stream.input_ended = True
    assert not request.take_in(stream, step_frames=8)
    request.take_frames(1)
    assert request.take_in(stream, step_frames=8)


def test_urgency_is_the_time_when_playback_runs_out(mimi: Mimi) -> None:
    request = DecodeRequest(0, 5.0, mimi.decoder.check_codes)
    assert request.urgency() == (0, 5.0)
    request.deliver(10, now_s=6.0)
    request.deliver(10, now_s=6.1)
    assert request.urgency() == (1, 6.0 + 20 * 0.08)


def test_an_encode_request_encodes_a_partial_frame_only_at_the_end(mimi: Mimi) -> None:
    request = EncodeRequest(EncodeStream(mimi.encoder, 4))
    stream: Any = Inbox(np.zeros(FRAME_SAMPLES + 1, dtype=np.float32))
    assert not request.take_in(stream, step_frames=4)
    assert request.encoder.ready_samples == FRAME_SAMPLES
    request.encoder.step()
    assert request.encoder.ready_samples == 0
    stream.input_ended = True
    assert not request.take_in(stream, step_frames=4)
    assert request.encoder.ready_samples == 1
    request.encoder.step()
    assert request.take_in(stream, step_frames=4)
