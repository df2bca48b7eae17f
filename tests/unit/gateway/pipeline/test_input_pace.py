"""The credit of a half turn: speech at the speed of talking keeps a slot, silence and a trickle of speech lose it."""

from __future__ import annotations

import asyncio

import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from gateway.pipeline import input_pace
from gateway.pipeline.input_pace import InputPace
from gateway.pipeline.turn_input import UserInput
from tests.support.set_clock import SetClock

SPEECH = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    clock = SetClock()
    monkeypatch.setattr(input_pace, "time", clock)
    return clock


@pytest.fixture
def source() -> UserInput:
    return UserInput(SPEECH, max_audio_s=600, max_chars=100)


def add_speech(source: UserInput, seconds: float) -> None:
    source.add_audio(b"\1\0" * round(seconds * 16_000))


async def has_ended(wait: asyncio.Task[None]) -> bool:
    """Whether a wait ends although no time passes."""
    done, _ = await asyncio.wait([wait], timeout=0.05)
    wait.cancel()
    await asyncio.wait([wait])
    return bool(done)


async def is_stalled(pace: InputPace) -> bool:
    return await has_ended(asyncio.create_task(pace.stalled()))


async def is_resumed(pace: InputPace) -> bool:
    return await has_ended(asyncio.create_task(pace.resumed()))


async def test_silence_stalls_a_turn_after_the_stated_time(clock: SetClock, source: UserInput) -> None:
    pace = InputPace(source, idle_s=8)
    clock.now_s += 7.9
    assert not await is_stalled(pace)
    clock.now_s += 0.2
    assert await is_stalled(pace)


async def test_speech_at_the_speed_of_talking_never_stalls(clock: SetClock, source: UserInput) -> None:
    pace = InputPace(source, idle_s=1)
    for _ in range(100):
        clock.now_s += 0.5
        add_speech(source, 0.5)
        assert pace._update() > 0
    assert not await is_stalled(pace)


async def test_a_trickle_of_speech_stalls_and_does_not_resume(clock: SetClock, source: UserInput) -> None:
    pace = InputPace(source, idle_s=4)
    for _ in range(5):
        clock.now_s += 2
        add_speech(source, 0.02)
        pace._update()
    assert await is_stalled(pace)
    for _ in range(5):
        clock.now_s += 2
        add_speech(source, 0.02)
        assert not await is_resumed(pace)


async def test_a_turn_resumes_with_half_a_second_of_speech_at_once(clock: SetClock, source: UserInput) -> None:
    pace = InputPace(source, idle_s=4)
    clock.now_s += 10
    assert await is_stalled(pace)
    add_speech(source, 0.4)
    assert not await is_resumed(pace)
    add_speech(source, 0.2)
    assert await is_resumed(pace)
    assert not await is_stalled(pace)


async def test_the_commit_resumes_a_turn_which_then_never_stalls(clock: SetClock, source: UserInput) -> None:
    pace = InputPace(source, idle_s=1)
    add_speech(source, 0.1)
    clock.now_s += 10
    source.commit()
    assert await is_resumed(pace)
    clock.now_s += 1_000
    assert not await is_stalled(pace)
