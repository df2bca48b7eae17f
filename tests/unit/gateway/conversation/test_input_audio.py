"""Turn detection of one client's audio, in pieces and beside the event loop."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from gateway.conversation import input_audio
from gateway.conversation.input_audio import InputAudioBuffer
from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import Started, Stopped, TurnDetection
from gateway.tasks import cancel
from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples, encode_pcm

_FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)
_PIECE = 1_600
_HANDS_FREE = ConversationOptions(input_format=_FORMAT, turn_detection=TurnDetection())


class FakeDetector:
    """Says of each piece that it is speech. `go` is cleared to hold the detector."""

    go = threading.Event()
    threads: set[int]

    def __init__(self, settings: TurnDetection, rate_hz: int) -> None:
        settings.check()
        self.pushed: list[int] = []
        self.inside = 0
        FakeDetector.threads = set()
        FakeDetector.go.set()

    def push(self, samples: Samples) -> list[Started | Samples | Stopped]:
        FakeDetector.threads.add(threading.get_ident())
        self.inside += 1
        assert self.inside == 1, "one piece at a time"
        FakeDetector.go.wait(10)
        self.pushed.append(len(samples))
        self.inside -= 1
        return [samples]

    def cut(self) -> Samples:
        return np.ones(3, dtype=np.float32)


def _message(seconds: float) -> bytes:
    return encode_pcm(np.zeros(int(seconds * 16_000), dtype=np.float32), AUDIO_ENCODING_PCM_S16LE)


@pytest.fixture
def buffer(monkeypatch: pytest.MonkeyPatch) -> InputAudioBuffer:
    """A buffer with a fake detector."""
    monkeypatch.setattr(input_audio, "TurnDetector", FakeDetector)
    buffer = InputAudioBuffer()
    buffer.set_options(_HANDS_FREE)
    return buffer


def _detector(buffer: InputAudioBuffer) -> FakeDetector:
    assert isinstance(buffer._detector, FakeDetector)
    return buffer._detector


async def test_a_long_message_is_detected_in_pieces_of_100_ms_off_the_loop(buffer: InputAudioBuffer) -> None:
    turns_of_the_loop = 0

    async def other_conversation() -> None:
        nonlocal turns_of_the_loop
        while True:
            await asyncio.sleep(0)
            turns_of_the_loop += 1

    other = asyncio.create_task(other_conversation())
    found = []
    for samples in await buffer.decode(_message(262.05)):
        found += await buffer.detect(samples)
    await cancel(other)
    assert _detector(buffer).pushed == [_PIECE] * 2_620 + [_PIECE // 2]
    assert sum(len(piece) for piece in found) == int(262.05 * 16_000)
    assert FakeDetector.threads.isdisjoint({threading.get_ident()})
    assert turns_of_the_loop > 2_620, "the loop goes on at least once a piece"


async def test_the_pieces_of_another_conversation_come_in_between(buffer: InputAudioBuffer) -> None:
    other = InputAudioBuffer()
    other.set_options(_HANDS_FREE)
    order = []

    async def talk(name: str, buffer: InputAudioBuffer, seconds: float) -> None:
        for samples in await buffer.decode(_message(seconds)):
            await buffer.detect(samples)
            order.append(name)

    await asyncio.gather(talk("long", buffer, 60.0), talk("short", other, 0.3))
    assert order.count("short") == 3
    assert order.index("short") < 30
    assert max(position for position, name in enumerate(order) if name == "short") < 60


async def test_a_cancelled_detection_ends_when_the_thread_has_left_the_detector(buffer: InputAudioBuffer) -> None:
    (samples,) = await buffer.decode(_message(0.1))
    FakeDetector.go.clear()
    detecting = asyncio.create_task(buffer.detect(samples))
    while not _detector(buffer).inside:  # noqa: ASYNC110  # the thread sets no event of the loop
        await asyncio.sleep(0)
    detecting.cancel()
    await asyncio.sleep(0)
    assert not detecting.done()
    FakeDetector.go.set()
    with pytest.raises(asyncio.CancelledError):
        await detecting
    assert _detector(buffer).inside == 0


async def test_other_options_give_the_rest_of_the_speech_under_way(buffer: InputAudioBuffer) -> None:
    assert len(buffer.set_options(_HANDS_FREE)) == 0, "the same options change nothing"
    assert len(buffer.set_options(ConversationOptions(input_format=_FORMAT))) == 3
    assert not buffer.detects_turns
    assert len(buffer.cut()) == 0


async def test_broken_samples_and_audio_without_a_format_are_refused(buffer: InputAudioBuffer) -> None:
    with pytest.raises(InvalidArgument):
        await buffer.decode(b"\0\0\0")
    with pytest.raises(InvalidArgument, match="input_format"):
        await InputAudioBuffer().decode(b"\0\0")
    with pytest.raises(InvalidArgument):
        buffer.set_options(ConversationOptions(input_format=_FORMAT, turn_detection=TurnDetection(threshold=2)))
