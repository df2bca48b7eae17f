"""A conversation over fake upstreams and a fake store, and a detector of speech that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np

from chroma.v1 import codec_pb2, reasoner_pb2, speech_gen_pb2
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat, CodeFrames, Pcm
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.usage import Usage
from gateway.audio.echo import EchoDetector
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.events import Event, Opened
from gateway.conversation.vad import Started, Stopped, TurnDetection
from gateway.pipeline.deltas import AudioDelta
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session
from gateway.tasks import cancel
from services.common.wire.audio import FRAME_SAMPLES
from services.common.wire.pcm import Samples, encode_pcm
from tests.support.fake_calls import FakeCall, FakeUpstreamPool
from tests.support.fake_store import CALLER, FakeSessions, FakeVoices

SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0")
FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)
OPTIONS = ConversationOptions(input_format=FORMAT)
AUDIO = encode_pcm(np.full(1_600, 0.5, dtype=np.float32), AUDIO_ENCODING_PCM_S16LE)


class Talk:
    """An open conversation and what its client was sent."""

    def __init__(self, options: ConversationOptions) -> None:
        session = Session("tenant", "session-1", SessionConfig(voice_id="ada"), (), 0, 0, 0.0, 0.0)
        self.upstreams = FakeUpstreamPool()
        self.sessions = FakeSessions(session, SETTINGS)
        self.backend = Backend(
            cast(UpstreamPool, self.upstreams),
            self.sessions,
            FakeVoices(self.sessions),
            SETTINGS,
            Usage(None, SETTINGS),
        )
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.conversation = Conversation(session, options, self.backend, CALLER, self._deliver)

    async def _deliver(self, event: Event) -> None:
        self.events.put_nowait(event)

    async def until(self, kind: type[Any]) -> Any:
        """The next event of this kind."""
        async with asyncio.timeout(60):
            while not isinstance(event := await self.events.get(), kind):
                pass
        return event

    async def reply_begins(self) -> FakeCall:
        """Let the reply of the committed turn think one token and speak two frames. Returns the Decode call."""
        think = await self.upstreams.reasoner.calls.get()
        think.answer(
            reasoner_pb2.ThinkResponse(opened=reasoner_pb2.ThinkOpened(checkpoint_fingerprint="one")),
            reasoner_pb2.ThinkResponse(thought=reasoner_pb2.Thought(token_id=10, text="Hi")),
        )
        speak, decode = await self.upstreams.speech_gen.calls.get(), await self.upstreams.codec.calls.get()
        speak.answer(
            speech_gen_pb2.SpeakResponse(opened=speech_gen_pb2.SpeakOpened()),
            speech_gen_pb2.SpeakResponse(frames=CodeFrames(codes=[1] * 16)),
        )
        decode.answer(codec_pb2.DecodeResponse(pcm=Pcm(data=bytes(4 * FRAME_SAMPLES))))
        await self.until(AudioDelta)
        return decode


@asynccontextmanager
async def open_talk(options: ConversationOptions = OPTIONS) -> AsyncIterator[Talk]:
    """A conversation that runs. It must leave no task behind."""
    tasks = asyncio.all_tasks()
    talk = Talk(options)
    running = asyncio.create_task(talk.conversation.run())
    assert isinstance(await talk.events.get(), Opened)
    yield talk
    await cancel(running)
    await talk.backend.eraser.close()  # it belongs to the gateway and works beside conversations
    assert asyncio.all_tasks() == tasks, "a conversation leaves no task"


class ScriptedDetector:
    """Finds speech in the first piece and its end in the second."""

    def __init__(self, settings: TurnDetection, rate_hz: int, echo: EchoDetector | None = None) -> None:
        self.pieces = 0
        self.speaking = False

    def push(self, samples: Samples) -> list[Started | Samples | Stopped]:
        self.pieces += 1
        return [Started(0), samples] if self.pieces == 1 else [samples, Stopped(200)]

    def cut(self) -> Samples:
        return np.zeros(0, dtype=np.float32)
