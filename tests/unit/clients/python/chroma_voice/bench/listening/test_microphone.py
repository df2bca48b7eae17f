from __future__ import annotations

import asyncio

import numpy as np
import pytest

from chroma_voice.bench.listening.listener import first_audible
from chroma_voice.bench.listening.microphone import Microphone
from tests.support.scripted_target import tone
from tests.support.virtual_time import virtual_time


class Sent:
    def __init__(self) -> None:
        self.at_s: list[float] = []
        self.data: list[bytes] = []

    async def __call__(self, data: bytes) -> None:
        self.at_s.append(asyncio.get_running_loop().time())
        self.data.append(data)


async def test_each_piece_is_sent_when_it_has_been_spoken() -> None:
    sent = Sent()
    with virtual_time():
        now_s = asyncio.get_running_loop().time()
        await Microphone(sent, 24_000).speak(tone(0.1), now_s + 1.0)
    assert [at_s - now_s for at_s in sent.at_s] == pytest.approx([1.04, 1.08, 1.1])
    assert b"".join(sent.data) == tone(0.1)


async def test_a_late_start_is_caught_up() -> None:
    sent = Sent()
    with virtual_time():
        now_s = asyncio.get_running_loop().time()
        await Microphone(sent, 24_000).speak(tone(0.2), now_s - 0.1)
    assert [round(at_s - now_s, 6) for at_s in sent.at_s] == [0, 0, 0.02, 0.06, 0.1]


async def test_an_open_microphone_sends_the_silent_room_between_speeches() -> None:
    sent = Sent()
    with virtual_time():
        now_s = asyncio.get_running_loop().time()
        microphone = Microphone(sent, 24_000)
        room = asyncio.create_task(microphone.stay_open())
        await microphone.speak(tone(0.4), now_s)
        await microphone.speak(tone(0.4), now_s + 2.0)
        room.cancel()
    sounds = [first_audible(np.frombuffer(piece, dtype="<i2")) is not None for piece in sent.data]
    assert sounds[:10] == sounds[-10:] == [True] * 10
    assert not any(sounds[10:-10])
    assert 39 <= len(sounds[10:-10]) <= 40
    assert all(np.frombuffer(piece, dtype="<i2").any() for piece in sent.data)  # never digital silence
