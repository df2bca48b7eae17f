"""The choice of the next step, and the slots."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.codec.messages import Decode, Encode
from services.codec.request import DecodeRequest
from services.codec.scheduler import Scheduler, choose
from services.common.errors import InvalidArgument, ResourceExhausted


def check(codes: np.ndarray) -> np.ndarray:
    if codes.ndim != 2:
        raise InvalidArgument("expected frames")
    return codes.astype(np.int64)


def decoding(opened_s: float, waiting: int, delivered: int = 0, first_pcm_s: float = 0.0) -> Any:
    state = DecodeRequest(0, opened_s, check, np.zeros((waiting, 8), dtype=np.int64), delivered, first_pcm_s)
    return SimpleNamespace(state=state)


def test_first_frames_go_first_then_the_nearest_playback_deadline() -> None:
    late, soon = decoding(0.0, 1, delivered=50, first_pcm_s=1.0), decoding(0.0, 1, delivered=10, first_pcm_s=1.0)
    new, newer = decoding(9.0, 1), decoding(9.5, 1)
    chosen, frames = choose([late, newer, soon, new], 3, 8)
    assert chosen == [new, newer, soon]
    assert frames == 1


def test_a_lone_stream_with_frames_waiting_ramps_up() -> None:
    ramp: list[int] = []
    stream = decoding(0.0, 40)
    while len(stream.state.waiting):
        ramp.append(choose([stream], 16, 8)[1])
        stream.state.take_frames(ramp[-1])
        stream.state.deliver(ramp[-1], now_s=1.0)
    assert ramp == [1, 2, 4, 8, 8, 8, 8, 1]
    assert choose([decoding(0.0, 40, delivered=20), decoding(0.0, 40, delivered=20)], 4, 8)[1] == 2


class Waiting:
    """A decode stream as the scheduler sees it."""

    def __init__(self, slot: int, *inputs: np.ndarray, ended: bool = False) -> None:
        self.state = DecodeRequest(slot, float(slot), check)
        self.inbox, self.input_ended, self.has_room = list(inputs), ended, True

    def take_input(self) -> np.ndarray:
        return self.inbox.pop(0)


def new_scheduler(slots: int = 2) -> Scheduler:
    return Scheduler(decode_slots=slots, encode_slots=1, width=slots, step_frames=8, encode_step_frames=4)


def admitted(scheduler: Scheduler, *inputs: np.ndarray, ended: bool = False) -> Any:
    stream: Any = Waiting(scheduler.free_slot(Decode()), *inputs, ended=ended)
    scheduler.add(stream)
    return stream


def test_slots_are_refused_when_taken_and_free_after_a_removal() -> None:
    scheduler = new_scheduler()
    first, _ = admitted(scheduler), admitted(scheduler)
    with pytest.raises(ResourceExhausted, match="all 2 decode slots"):
        scheduler.free_slot(Decode())
    encoding: Any = Waiting(0)
    encoding.state = None
    scheduler.add(encoding)
    with pytest.raises(ResourceExhausted, match="encode slots"):
        scheduler.free_slot(Encode())
    scheduler.remove(first)
    assert scheduler.free_decode_slots == 1
    assert scheduler.free_slot(Decode()) == first.state.slot


def test_a_stream_whose_input_is_bad_ends_and_the_others_are_stepped_next() -> None:
    scheduler = new_scheduler()
    bad, good = admitted(scheduler, np.zeros(3)), admitted(scheduler, np.zeros((1, 8)))
    batch = scheduler.schedule(0.0)
    assert batch is not None
    [(ended, end)] = batch.ending
    assert ended is bad
    assert isinstance(end.error, InvalidArgument)
    assert batch.streams == [bad]
    scheduler.remove(bad)
    batch = scheduler.schedule(0.0)
    assert batch is not None
    assert (batch.decoding, batch.frames) == ([good], 1)


def test_a_stream_whose_reader_is_slow_is_left_out() -> None:
    scheduler = new_scheduler()
    admitted(scheduler, np.zeros((1, 8))).has_room = False
    assert scheduler.schedule(0.0) is None


def test_a_stream_ends_when_its_input_has_ended_and_is_decoded() -> None:
    scheduler = new_scheduler()
    stream = admitted(scheduler, np.zeros((1, 8)), ended=True)
    batch = scheduler.schedule(0.0)
    assert batch is not None
    assert batch.decoding == [stream]
    stream.state.take_frames(1)
    batch = scheduler.schedule(0.0)
    assert batch is not None
    assert [ended for ended, _ in batch.ending] == [stream]
