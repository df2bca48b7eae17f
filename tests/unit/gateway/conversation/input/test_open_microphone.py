"""Turns that begin and end in the audio of an open microphone, over a scripted detector."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from gateway.audio.echo import EchoDetector, PlayedSpeech
from gateway.conversation.input import input_audio
from gateway.conversation.input.input_audio import InputAudioBuffer
from gateway.conversation.input.input_turn import InputTurn, Recording
from gateway.conversation.input.open_microphone import OpenMicrophone
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.event_queue import EventQueue
from gateway.conversation.output.events import SpeechStarted, SpeechStopped
from gateway.conversation.turns.active_turns import ActiveTurns
from gateway.conversation.vad import Started, Stopped, TurnDetection
from gateway.pipeline.turn_input import UserInput
from gateway.settings import GatewaySettings
from gateway.tasks import cancel
from services.common.wire.pcm import Samples, encode_pcm

_SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", turn_gap_s=0.05)
_FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)
_LIMIT_S = 1.0


class EndlessSpeech:
    """A detector that finds speech in the first piece, and no end of it until `ends`."""

    ends = False

    def __init__(self, settings: TurnDetection, rate_hz: int, echo: EchoDetector | None = None) -> None:
        self.speaking = False
        self.position_ms = 0

    def push(self, samples: Samples) -> list[Started | Samples | Stopped]:
        found: list[Started | Samples | Stopped] = [] if self.speaking else [Started(self.position_ms)]
        self.speaking = not self.ends
        self.position_ms += len(samples) // 16
        return [*found, samples, *([Stopped(self.position_ms)] if self.ends else [])]

    def cut(self) -> Samples:
        self.speaking = False
        return np.zeros(0, dtype=np.float32)


class Turns:
    """The turns of a conversation: what began, was committed and interrupted."""

    def __init__(self) -> None:
        self.input_turn: Any = None
        self.log: list[Any] = []
        self.committed_s: list[float] = []
        self.has_committed = asyncio.Event()

    async def interrupt(self) -> None:
        self.log.append("interrupt")

    async def put(self, event: Any) -> None:
        self.log.append(event)

    def source(self) -> UserInput:
        if self.input_turn is None:
            source = UserInput(_FORMAT, max_audio_s=_LIMIT_S, max_chars=100)
            self.input_turn = SimpleNamespace(
                turn=SimpleNamespace(turn_id=f"turn-{len(self.committed_s)}", source=source)
            )
        return self.input_turn.turn.source

    def end_speech(self) -> Recording:
        self.source().end_audio()
        return Recording(self.input_turn.turn.turn_id, "recording")

    async def commit(self) -> None:
        self.committed_s.append(self.source().audio_s)
        self.input_turn = None
        self.log.append("commit")
        self.has_committed.set()


@pytest.fixture
def turns() -> Turns:
    """The turns of a conversation."""
    return Turns()


def _microphone(
    monkeypatch: pytest.MonkeyPatch, turns: Turns, detection: TurnDetection
) -> tuple[OpenMicrophone, InputAudioBuffer]:
    monkeypatch.setattr(input_audio, "TurnDetector", EndlessSpeech)
    monkeypatch.setattr(EndlessSpeech, "ends", False)
    audio = InputAudioBuffer(_SETTINGS, PlayedSpeech(24_000))
    audio.set_options(ConversationOptions(input_format=_FORMAT, turn_detection=detection))
    fakes = cast(ActiveTurns, turns), cast(EventQueue, turns)
    return OpenMicrophone(audio, *fakes, cast(InputTurn, turns), turns.commit, turns.interrupt), audio


def _speech(seconds: float) -> bytes:
    return encode_pcm(np.full(int(seconds * 16_000), 0.5, dtype=np.float32), AUDIO_ENCODING_PCM_S16LE)


async def test_speech_that_outgrows_its_turn_is_committed_at_once_and_goes_on_in_another_one(
    monkeypatch: pytest.MonkeyPatch, turns: Turns
) -> None:
    microphone, _ = _microphone(monkeypatch, turns, TurnDetection())
    await microphone.append(_speech(2.5))
    assert turns.committed_s == pytest.approx([1.0, 1.0])
    assert turns.log == [
        "interrupt",
        SpeechStarted("turn-0", 0),
        SpeechStopped("turn-0", 1_000, "recording"),
        "commit",
        SpeechStarted("turn-1", 1_000),
        SpeechStopped("turn-1", 2_000, "recording"),
        "commit",
        SpeechStarted("turn-2", 2_000),
    ]
    assert turns.source().audio_s == pytest.approx(0.5)


async def test_speech_that_outgrows_a_turn_of_a_client_that_commits_is_told_once_and_its_rest_is_dropped(
    monkeypatch: pytest.MonkeyPatch, turns: Turns
) -> None:
    microphone, _ = _microphone(monkeypatch, turns, TurnDetection(respond=False))
    await microphone.append(_speech(2.5))
    EndlessSpeech.ends = True
    await microphone.append(_speech(0.1))
    await microphone.append(_speech(0.1))
    assert turns.log == ["interrupt", SpeechStarted("turn-0", 0), SpeechStopped("turn-0", 1_000, "recording")]
    source = turns.source()
    assert source.audio_s == pytest.approx(1.0)
    source.commit()
    assert [request async for request in source.requests()], "the turn has not failed"
    await turns.commit()
    await microphone.append(_speech(0.1))
    assert turns.log[-2:] == [SpeechStarted("turn-1", 2_700), SpeechStopped("turn-1", 2_800, "recording")]


async def test_a_turn_whose_audio_stays_away_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch, turns: Turns) -> None:
    microphone, _ = _microphone(monkeypatch, turns, TurnDetection(silence_ms=50))
    handling = asyncio.Lock()
    watching = asyncio.create_task(microphone.end_stopped_turns(handling))
    async with handling:
        await microphone.append(_speech(0.3))
        await asyncio.sleep(0.2)
        assert turns.committed_s == [], "a message of the client is handled"
    async with asyncio.timeout(60):
        await turns.has_committed.wait()
    assert turns.committed_s == pytest.approx([0.3])
    assert turns.log[-2:] == [SpeechStopped("turn-0", 300, "recording"), "commit"]
    await microphone.append(_speech(0.1))
    assert turns.log[-1] == SpeechStarted("turn-1", 300)
    await cancel(watching)
