"""All three models behind one engine thread in this process, and turns through them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bench.harness.one_device import OneDevice
from bench.harness.workload import Clock, Session
from services.codec.messages import Decode
from services.codec.model.mimi import Mimi
from services.codec.runner import CodecRunner
from services.common.sampling import SamplingParams
from services.reasoner.messages import Audio, Commit, Conversation, Text, Thought, TurnOpen
from services.reasoner.model.parts import Piece
from services.reasoner.model.weights import load_thinker
from services.reasoner.runner import ThinkRunner
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine import engine as runtime
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.pages import PAGE_SIZE
from services.speech_gen.messages import Frame, SpeechRequest
from services.speech_gen.model.generator import ThoughtInput
from services.speech_gen.model.voice import VoicePrompt, enroll
from services.speech_gen.model.weights import load_generator
from services.speech_gen.runner import SpeechRunner

THINKER_POSITIONS = 2048


@dataclass
class EngineTurn:
    """The result of one turn. Times are seconds from the opening of its streams."""

    frames: list[tuple[int, ...]] = field(default_factory=list)
    frame_s: list[float] = field(default_factory=list)
    reply: list[int] = field(default_factory=list)


@dataclass
class FixedPrompt:
    """A prompt of fixed token ids. The last id comes when the user's turn is closed, like in any prompt."""

    ids: list[int]
    _is_open: bool = field(default=False, init=False)

    @property
    def common_positions(self) -> int:
        """None of the ids counts as the deployment's own."""
        return 0

    def opening(self) -> list[Piece]:
        """All ids but the last. Later calls return nothing."""
        was_open, self._is_open = self._is_open, True
        return [] if was_open else [self.ids[:-1]]

    def text(self, text: str, /) -> list[Piece]:
        """Nothing: the ids contain the user's text."""
        return []

    def begin_audio(self) -> list[Piece]:
        """Nothing."""
        return []

    end_audio = begin_audio

    def close(self) -> list[Piece]:
        """The last id."""
        return [self.ids[-1:]]


class InProcess:
    """The three models of one checkpoint on one `device`, with `slots` streams each.

    Thinker and backbone have memory for `positions` positions of every stream.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        slots: int,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        positions: int = THINKER_POSITIONS,
        weights: WeightFormat = "as-stored",
        clock: Clock = time.perf_counter,
    ) -> None:
        self._clock = clock
        self.config = ChromaConfig.from_dict(checkpoint.config)
        thinker = load_thinker(checkpoint, dtype=dtype, device=device, weights=weights)
        page_size = PAGE_SIZE
        kv = PagedKV(
            thinker.config,
            slots=slots,
            pages=slots * positions // page_size,
            page_size=page_size,
            dtype=dtype,
            device=device,
            max_positions=positions,
        )
        pages = slots * min(positions, self.config.backbone.max_positions) // page_size
        self.generator = load_generator(
            checkpoint, slots=slots, kv_pages=pages, dtype=dtype, device=device, weights=weights
        )
        self.think = ThinkRunner(thinker, Tokenizer.from_checkpoint(checkpoint), kv, max_thoughts=positions)
        self.speech = SpeechRunner(self.generator)
        self.mimi = Mimi.load(checkpoint, device=device)
        self.codec = CodecRunner(self.mimi, decode_slots=slots)

    def warm_up(self) -> None:
        """Warm up all models, like each service does before it reports SERVING."""
        for runner in (self.think, self.speech, self.codec):
            runner.warm_up()

    def voice(self, session: Session) -> VoicePrompt:
        """Enroll the session's recording."""
        codes = self.mimi.encode(session.recording.numpy())
        return enroll(self.generator.backbone, self.config.tokens, codes.astype(np.int64), session.transcript)

    def forget_voices(self) -> None:
        """Evict the voice prompts that no stream uses. The next turn with such a voice prefills it again."""
        while self.speech.shared_prompts.evict_one():
            pass

    @asynccontextmanager
    async def running(self) -> AsyncIterator[runtime.Engine[Any, Any, Any, Any]]:
        """A running engine over all models."""
        runner = OneDevice({TurnOpen: self.think, SpeechRequest: self.speech, Decode: self.codec})
        engine: runtime.Engine[Any, Any, Any, Any] = runtime.Engine("bench", runner)
        engine.start()
        try:
            yield engine
        finally:
            engine.stop()

    async def turn(
        self,
        engine: runtime.Engine[Any, Any, Any, Any],
        voice: VoicePrompt,
        conversation: list[int],
        max_frames: int,
        *,
        question: torch.Tensor | None = None,
        max_lead_s: float | None = None,
    ) -> EngineTurn:
        """One reply to `conversation` and a spoken `question` [S] at 16 kHz after it; greedy, until `max_frames`."""
        turn, started_s = EngineTurn(), self._clock()
        thoughts = (max_frames + 1) // 2
        asked = TurnOpen(max_thoughts=thoughts, keep_prefix=True, scope="bench")
        wanted = SpeechRequest(voice, SamplingParams(greedy=True), max_frames, max_lead_s)
        async with engine.open(asked) as thinking, engine.open(wanted) as speaking:

            async def hand_over() -> None:
                await thinking.feed(Conversation(FixedPrompt(conversation)))
                await thinking.feed(Text("as given") if question is None else Audio(question))
                await thinking.feed(Commit())
                thinking.finish()
                async for output in thinking:
                    if isinstance(output, Thought):
                        turn.reply.append(output.token_id)
                        await speaking.feed(ThoughtInput(output.token_id, output.hidden, output.last))
                speaking.finish()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(hand_over())
                async for output in speaking:
                    if isinstance(output, Frame):
                        turn.frames.append(output.codes)
                        turn.frame_s.append(self._clock() - started_s)
        return turn
