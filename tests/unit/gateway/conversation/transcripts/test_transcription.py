"""Transcripts of the user's speech."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from chroma.v1 import reasoner_pb2
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from gateway.conversation.output.event_queue import EventQueue
from gateway.conversation.output.events import Event
from gateway.conversation.transcripts.transcription import Transcriber, transcribe
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord
from services.common.errors import FailedPrecondition, NotFound, Unavailable
from services.common.wire.pcm import encode_pcm
from tests.support.fake_calls import FakeCall, FakeUpstreamPool

_SPEECH = encode_pcm(np.full(1_600, 0.5, dtype=np.float32), AUDIO_ENCODING_PCM_S16LE)


def _settings(*, transcribe: bool = True) -> GatewaySettings:
    return GatewaySettings(
        reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", transcribe=transcribe
    )


def _record(turn_id: str = "turn-1") -> TurnRecord:
    return TurnRecord(turn_id, user=("look:", _SPEECH), encoding=AUDIO_ENCODING_PCM_S16LE)


def _say(think: FakeCall, *words: str) -> None:
    for index, text in enumerate(words):
        think.answer(reasoner_pb2.ThinkResponse(thought=reasoner_pb2.Thought(index=index, text=text)))
    think.end()


async def test_the_reasoner_alone_writes_the_speech_down_without_history() -> None:
    upstreams = FakeUpstreamPool()
    writing = asyncio.create_task(transcribe(_record(), cast(UpstreamPool, upstreams), _settings()))
    think = await upstreams.reasoner.calls.get()
    opened = (await think.requests.get()).open
    assert (opened.session_id, len(opened.history)) == ("", 0)
    assert opened.priority == reasoner_pb2.PRIORITY_LOW
    assert "speech" in opened.system_prompt
    assert (await think.requests.get()).audio.data == _SPEECH
    _say(think, " good", " day ")
    transcript = await writing
    assert (transcript.turn_id, transcript.text, transcript.error) == ("turn-1", "good day", None)
    assert upstreams.speech_gen.calls.empty()


async def test_the_transcript_of_silence_is_empty_without_a_pass_of_the_reasoner() -> None:
    upstreams = FakeUpstreamPool()
    record = TurnRecord("turn-1", user=("look:", bytes(len(_SPEECH))), encoding=AUDIO_ENCODING_PCM_S16LE)
    transcript = await transcribe(record, cast(UpstreamPool, upstreams), _settings())
    assert (transcript.text, transcript.error) == ("", None)
    assert upstreams.reasoner.calls.empty()


async def test_a_turn_without_speech_and_a_server_that_does_not_transcribe_say_so() -> None:
    upstreams = cast(UpstreamPool, FakeUpstreamPool())
    silent = await transcribe(TurnRecord("turn-1", user=("typed",)), upstreams, _settings())
    assert isinstance(silent.error, NotFound)
    off = await transcribe(_record(), upstreams, _settings(transcribe=False))
    assert isinstance(off.error, FailedPrecondition)


async def test_the_event_of_a_failed_pass_has_its_error() -> None:
    upstreams = FakeUpstreamPool()
    writing = asyncio.create_task(transcribe(_record(), cast(UpstreamPool, upstreams), _settings()))
    think = await upstreams.reasoner.calls.get()
    think.answer(reasoner_pb2.ThinkResponse(thought=reasoner_pb2.Thought(text="good")), Unavailable("gone"))
    assert isinstance((await writing).error, Unavailable)


class FakeEvents:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    async def put(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)


@pytest.fixture
def events() -> FakeEvents:
    """The events of the conversation."""
    return FakeEvents()


async def test_turns_are_transcribed_one_after_the_other(events: FakeEvents) -> None:
    upstreams = FakeUpstreamPool()
    transcriber = Transcriber(cast(UpstreamPool, upstreams), _settings(), cast(EventQueue, events))
    transcriber.add(_record("turn-1"))
    transcriber.add(_record("turn-2"))
    for word in ("one", "two"):
        think = await upstreams.reasoner.calls.get()
        assert upstreams.reasoner.calls.empty()
        _say(think, word)
    await transcriber.finish()
    assert [(event.turn_id, event.text) for event in events.events] == [("turn-1", "one"), ("turn-2", "two")]


async def test_a_closed_transcriber_leaves_no_task(events: FakeEvents) -> None:
    tasks = asyncio.all_tasks()
    upstreams = FakeUpstreamPool()
    transcriber = Transcriber(cast(UpstreamPool, upstreams), _settings(), cast(EventQueue, events))
    transcriber.add(_record("turn-1"))
    transcriber.add(_record("turn-2"))
    await upstreams.reasoner.calls.get()
    await transcriber.close()
    assert asyncio.all_tasks() == tasks
    assert events.events == []
