"""The request streams of a turn's three calls, and the plan that they follow."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from chroma.v1.audio_pb2 import AudioEncoding, CodeFrames
from chroma.v1.codec_pb2 import DecodeOpen, DecodeRequest
from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.reasoner_pb2 import REPLY_SOURCE_GENERATED, REPLY_SOURCE_GIVEN, ThinkOpen, ThinkRequest, Thought
from chroma.v1.speech_gen_pb2 import Sampling, SpeakOpen, SpeakRequest
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.store.records import FRAMES_PER_THOUGHT, TurnRecord
from gateway.store.voices import SpokenVoice


@dataclass(frozen=True)
class TurnPlan:
    """The context and the settings of one turn. Times in seconds."""

    session_id: str
    config: SessionConfig
    """The session's settings when the plan was made."""
    system_prompt: str | None
    """None: the default of the checkpoint's chat template."""
    history: tuple[TurnRecord, ...]
    voice: SpokenVoice | None
    """None: the reply is not spoken."""
    sampling: Sampling | None
    """None: the checkpoint's defaults."""
    max_frames: int
    max_lead_s: float | None
    """None: the speech generator's default."""
    output_encoding: AudioEncoding.ValueType


async def think_requests(
    plan: TurnPlan, history: Sequence[TurnRecord], source: UserInput | ForcedReply
) -> AsyncGenerator[ThinkRequest, None]:
    """Yield the past conversation, then the input as it comes."""
    yield ThinkRequest(
        open=ThinkOpen(
            session_id=plan.session_id,
            system_prompt=plan.system_prompt,
            history=[message for turn in history for message in turn.messages()],
            audio_encoding=source.encoding,
            max_thoughts=math.ceil(plan.max_frames / FRAMES_PER_THOUGHT),
            reply_source=REPLY_SOURCE_GIVEN if isinstance(source, ForcedReply) else REPLY_SOURCE_GENERATED,
        )
    )
    async for request in source.requests():
        yield request


async def speak_requests(
    opened: SpeakOpen,
    admitted: asyncio.Event,
    spoken: asyncio.Event,
    thoughts: asyncio.Queue[Thought | None],
) -> AsyncGenerator[SpeakRequest, None]:
    """Yield `opened`, then the thoughts.

    The first thought is taken from the queue once the call is admitted, so a refused call leaves all thoughts to the
    next one. No thought is sent once the speech has ended.
    """
    yield SpeakRequest(open=opened)
    await admitted.wait()
    while (thought := await thoughts.get()) is not None and not spoken.is_set():
        yield SpeakRequest(thought=thought)


async def decode_requests(
    opened: DecodeOpen, frames: asyncio.Queue[CodeFrames | None], taken: list[CodeFrames | None]
) -> AsyncGenerator[DecodeRequest, None]:
    """Yield `opened`, then the frames.

    `taken` holds the frames that an earlier call took from the queue; they are sent again first. Frames that this call
    takes are added to it.
    """
    yield DecodeRequest(open=opened)
    sent = 0
    while True:
        if sent == len(taken):
            taken.append(await frames.get())
        message = taken[sent]
        if message is None:
            return
        yield DecodeRequest(frames=message)
        sent += 1
