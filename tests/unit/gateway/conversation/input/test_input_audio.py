"""Turn detection of one client's audio, in pieces and beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_PCM_S16LE, AudioEncoding, AudioFormat
from gateway.audio.echo import EchoDetector, PlayedSpeech
from gateway.conversation.input import input_audio
from gateway.conversation.input.input_audio import InputAudioBuffer
from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import Started, Stopped, TurnDetection
from gateway.settings import GatewaySettings
from gateway.tasks import cancel
from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples, encode_pcm, sample_bytes

_SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", turn_gap_s=0.05)
_FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)
_PIECE = 1_600
_HANDS_FREE = ConversationOptions(input_format=_FORMAT, turn_detection=TurnDetection())


class FakeDetector:
    """Says of each piece that it is speech. `go` is cleared to hold the detector."""

    go = threading.Event()
    threads: set[int]

    def __init__(self, settings: TurnDetection, rate_hz: int, echo: EchoDetector | None = None) -> None:
        settings.check()
        self.settings, self.echo = settings, echo
        self.speaking = False
        self.position_ms = 0
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
        self.speaking = False
        return np.ones(3, dtype=np.float32)


def _message(seconds: float) -> bytes:
    return encode_pcm(np.zeros(int(seconds * 16_000), dtype=np.float32), AUDIO_ENCODING_PCM_S16LE)


@pytest.fixture
def buffer(monkeypatch: pytest.MonkeyPatch) -> InputAudioBuffer:
    """A buffer with a fake detector."""
    monkeypatch.setattr(input_audio, "TurnDetector", FakeDetector)
    buffer = InputAudioBuffer(_SETTINGS, PlayedSpeech(24_000))
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
    other = InputAudioBuffer(_SETTINGS, PlayedSpeech(24_000))
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
        await InputAudioBuffer(_SETTINGS, PlayedSpeech(24_000)).decode(b"\0\0")
    with pytest.raises(InvalidArgument):
        buffer.set_options(ConversationOptions(input_format=_FORMAT, turn_detection=TurnDetection(threshold=2)))


async def test_a_closed_buffer_gives_its_detector_back() -> None:
    buffer = InputAudioBuffer(_SETTINGS, PlayedSpeech(24_000))
    buffer.set_options(_HANDS_FREE)
    assert buffer.detects_turns
    buffer.close()
    assert not buffer.detects_turns
    assert not len(buffer.cut())


@pytest.mark.parametrize("size", [1, 7, 161, 1_601])
@pytest.mark.parametrize("encoding", [AUDIO_ENCODING_PCM_S16LE, AUDIO_ENCODING_PCM_F32LE])
def test_messages_that_end_within_a_sample_give_the_same_samples(size: int, encoding: AudioEncoding.ValueType) -> None:
    buffer = InputAudioBuffer(_SETTINGS, PlayedSpeech(24_000))
    buffer.set_options(ConversationOptions(input_format=AudioFormat(encoding=encoding, sample_rate_hz=16_000)))
    sent = encode_pcm(np.random.default_rng(2).uniform(-1, 1, 4_000).astype(np.float32), encoding)
    pieces = [buffer.whole_samples(sent[start : start + size]) for start in range(0, len(sent), size)]
    assert all(len(piece) % sample_bytes(encoding) == 0 for piece in pieces)
    assert b"".join(pieces) == sent


@pytest.mark.parametrize("end", ["cut", "close", "format"])
def test_the_bytes_of_a_cut_sample_are_dropped_at_the_end_of_the_audio(end: str) -> None:
    buffer = InputAudioBuffer(_SETTINGS, PlayedSpeech(24_000))
    buffer.set_options(ConversationOptions(input_format=_FORMAT))
    assert buffer.whole_samples(b"\1\2\3") == b"\1\2"
    if end == "cut":
        buffer.cut()
    else:
        if end == "close":
            buffer.close()
        other = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=8_000)
        buffer.set_options(ConversationOptions(input_format=other))
    assert buffer.whole_samples(b"\4\5") == b"\4\5"


async def test_audio_that_stays_away_in_the_middle_of_speech_ends_the_turn(buffer: InputAudioBuffer) -> None:
    detector = _detector(buffer)
    waiting = asyncio.create_task(buffer.audio_stops())
    (samples,) = await buffer.decode(_message(0.1))
    await buffer.detect(samples)
    assert buffer.end_stopped_audio() == [], "no turn is under way"
    detector.speaking, detector.position_ms = True, 200
    await buffer.detect(samples)
    assert buffer.end_stopped_audio() == [], "the audio came just now"
    async with asyncio.timeout(60):
        await waiting
    rest, stop = buffer.end_stopped_audio()
    assert isinstance(rest, np.ndarray)
    assert len(rest) == 3
    assert stop == Stopped(200)
    assert buffer.end_stopped_audio() == [], "the turn has ended"


@pytest.mark.parametrize("by_setting", [True, False])
@pytest.mark.parametrize("by_client", [True, False, None])
async def test_a_client_or_else_the_setting_says_whether_echoes_are_ignored(
    buffer: InputAudioBuffer, by_setting: bool, by_client: bool | None
) -> None:
    played = PlayedSpeech(24_000)
    buffer = InputAudioBuffer(_SETTINGS.model_copy(update={"ignore_echo": by_setting}), played)
    buffer.set_options(replace(_HANDS_FREE, turn_detection=TurnDetection(ignore_echo=by_client)))
    ignores = by_setting if by_client is None else by_client
    assert (_detector(buffer).echo is not None) == ignores
    assert played.is_wanted == ignores


async def test_a_client_that_asks_for_no_least_speech_gets_that_of_the_settings(buffer: InputAudioBuffer) -> None:
    assert _detector(buffer).settings.speech_ms == 200
    buffer.set_options(replace(_HANDS_FREE, turn_detection=TurnDetection(speech_ms=320)))
    assert _detector(buffer).settings.speech_ms == 320
