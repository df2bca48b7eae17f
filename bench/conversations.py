"""Spoken conversations through all three engines, in real time: when each frame's sound was there, and how late."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bench.in_process import FixedPrompt, InProcess
from services.codec.messages import Decode
from services.common.errors import ResourceExhausted
from services.common.sampling import SamplingParams
from services.common.wire.audio import FRAME_S, FRAME_SAMPLES, HEARING_RATE_HZ
from services.reasoner.messages import Audio, Commit, Conversation, Thought, TurnOpen
from services.runtime.engine.engine import Engine
from services.speech_gen.messages import Frame, SpeechRequest
from services.speech_gen.model.generator import Thought as SpokenThought
from services.speech_gen.model.voice import VoicePrompt

LEAD_S = 2.0
PIECE_SAMPLES = HEARING_RATE_HZ * 2 // 25


@dataclass
class Heard:
    """One reply as its listener has it. Times are seconds from the commit."""

    refused: bool = False
    sound_s: list[float] = field(default_factory=list)
    """When the sound of each frame was there."""

    @property
    def underruns(self) -> int:
        """Frames that were late for a player that starts at the first one and waits when it must."""
        late, plays_s = 0, self.sound_s[0] if self.sound_s else 0.0
        for ready_s in self.sound_s:
            late += ready_s > plays_s + 1e-3
            plays_s = max(plays_s, ready_s) + FRAME_S
        return late


async def converse(
    ours: InProcess,
    engine: Engine[Any, Any, Any, Any],
    voice: VoicePrompt,
    history: list[int],
    question: torch.Tensor,
    frames: int,
    *,
    speaks_s: float,
) -> Heard:
    """A question [S] at 16 kHz, spoken over `speaks_s` seconds, and its reply of `frames` frames in real time."""
    heard = Heard()
    asked = TurnOpen(max_thoughts=(frames + 1) // 2, keep_prefix=True)
    try:
        async with engine.open(asked) as thinking:
            await thinking.feed(Conversation(FixedPrompt(history)))
            pieces = question.split(PIECE_SAMPLES)
            began_s = time.perf_counter()
            for number, piece in enumerate(pieces, start=1):
                await thinking.feed(Audio(piece))
                await asyncio.sleep(max(0.0, began_s + speaks_s * number / len(pieces) - time.perf_counter()))
            await thinking.feed(Commit())
            thinking.finish()
            committed_s = time.perf_counter()
            wanted = SpeechRequest(voice, SamplingParams(seed=1), frames, LEAD_S)
            async with (
                engine.open(wanted) as speaking,
                engine.open(Decode()) as sounding,
                asyncio.TaskGroup() as tasks,
            ):
                tasks.create_task(_hand_thoughts(thinking, speaking))
                tasks.create_task(_hand_frames(speaking, sounding))
                async for pcm in sounding:
                    ready = len(pcm) // FRAME_SAMPLES
                    heard.sound_s += [time.perf_counter() - committed_s] * ready
    except ResourceExhausted:
        heard.refused = True
    return heard


async def _hand_thoughts(thinking: Any, speaking: Any) -> None:
    async for output in thinking:
        if isinstance(output, Thought):
            await speaking.feed(SpokenThought(output.token_id, output.hidden, output.last))
    speaking.finish()


async def _hand_frames(speaking: Any, sounding: Any) -> None:
    async for output in speaking:
        if isinstance(output, Frame):
            await sounding.feed(np.array([output.codes]))
    sounding.finish()
