"""Spoken conversations through all three models in real time: the time of each frame's sound, and the late frames."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bench.harness.in_process import FixedPrompt, InProcess
from services.codec.messages import Decode
from services.common.errors import ResourceExhausted
from services.common.sampling import SamplingParams
from services.common.wire.audio import FRAME_S, FRAME_SAMPLES, HEARING_RATE_HZ
from services.reasoner.messages import Audio, Commit, Conversation, Thought, TurnOpen
from services.runtime.engine.engine import Engine
from services.speech_gen.messages import Frame, SpeechRequest
from services.speech_gen.model.generator import ThoughtInput
from services.speech_gen.model.voice import VoicePrompt

LEAD_S = 2.0
PIECE_SAMPLES = HEARING_RATE_HZ * 2 // 25


@dataclass
class ReplySound:
    """The sound of one reply. Times are seconds after the commit."""

    refused: bool = False
    sound_s: list[float] = field(default_factory=list)
    """The time of each frame's sound."""

    @property
    def underruns(self) -> int:
        """Number of gaps for a player that starts with the first frame and waits for each late one.

        The client's PlaybackClock would say the same, but a GPU session has no gRPC, which the client imports.
        """
        gaps, plays_s = 0, self.sound_s[0] if self.sound_s else 0.0
        for ready_s in self.sound_s:
            gaps += ready_s > plays_s + 1e-3
            plays_s = max(plays_s, ready_s) + FRAME_S
        return gaps


async def converse(
    ours: InProcess,
    engine: Engine[Any, Any, Any, Any],
    voice: VoicePrompt,
    history: list[int],
    question: torch.Tensor,
    frames: int,
    *,
    speaks_s: float,
) -> ReplySound:
    """A question [S] at 16 kHz, spoken over `speaks_s` seconds, and its reply of `frames` frames in real time."""
    reply = ReplySound()
    turn = TurnOpen(max_thoughts=(frames + 1) // 2, keep_prefix=True, scope="bench")
    try:
        async with engine.open(turn) as thinking:
            await thinking.feed(Conversation(FixedPrompt(history)))
            pieces = question.split(PIECE_SAMPLES)
            began_s = time.perf_counter()
            for number, piece in enumerate(pieces, start=1):
                await thinking.feed(Audio(piece))
                await asyncio.sleep(max(0.0, began_s + speaks_s * number / len(pieces) - time.perf_counter()))
            await thinking.feed(Commit())
            thinking.finish()
            committed_s = time.perf_counter()
            speech = SpeechRequest(voice, SamplingParams(seed=1), frames, LEAD_S)
            async with (
                engine.open(speech) as speaking,
                engine.open(Decode()) as sounding,
                asyncio.TaskGroup() as tasks,
            ):
                tasks.create_task(_feed_thoughts(thinking, speaking))
                tasks.create_task(_feed_frames(speaking, sounding))
                async for pcm in sounding:
                    ready = len(pcm) // FRAME_SAMPLES
                    reply.sound_s += [time.perf_counter() - committed_s] * ready
    except ResourceExhausted:
        reply.refused = True
    return reply


async def _feed_thoughts(thinking: Any, speaking: Any) -> None:
    async for output in thinking:
        if isinstance(output, Thought):
            await speaking.feed(ThoughtInput(output.token_id, output.hidden, output.last))
    speaking.finish()


async def _feed_frames(speaking: Any, sounding: Any) -> None:
    async for output in speaking:
        if isinstance(output, Frame):
            await sounding.feed(np.array([output.codes]))
    sounding.finish()
