"""The speech generator in simulated time: admission, pacing and the batch of each step.

It decides as services/speech_gen/scheduler.py does; a unit test compares both. Only what that needs is kept of a
stream, and the two moments that decide about it are computed once a frame, so that thousands of streams can be
simulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.capacity.simulation.engines import Batch, Engine, EngineStream, Refused
from services.common.settings import PREFILL_POSITIONS
from services.common.wire.audio import FRAME_S

MAX_BATCHING_WAIT_S = FRAME_S
MIN_CHUNK_POSITIONS = 16
MAX_CHUNK_GAP_S = 0.25
CHUNK_SHARE = 0.75
"""As in services/speech_gen/scheduler.py."""


@dataclass(eq=False)
class SpeechStream(EngineStream):
    """A reply that is spoken."""

    total_frames: int
    """Frames of the reply. One more step finds its end."""
    total_thoughts: int
    max_lead_s: float
    took: Callable[[], None]
    """Is called for each frame made, and once at the end."""
    voice_positions: int = 0
    """Positions of the voice prompt that are still to be computed; 0 when the replica has the prompt."""
    frames: int = 0
    thoughts_used: int = 0
    thoughts_there: int = 0
    first_frame_s: float = math.inf
    last_frame_s: float = math.inf
    ready_s: float = -math.inf
    """From this moment on the lead allows the next frame."""
    due_s: float = -math.inf
    """At this moment the stream waits no longer for others."""
    admitted_s: float = 0.0
    ended: bool = field(default=False, init=False)

    @property
    def wants_thought(self) -> bool:
        """Whether the next frame takes a thought."""
        return self.frames % 2 == 0 and self.thoughts_used < self.total_thoughts

    @property
    def is_able(self) -> bool:
        """Whether it has all that its next frame needs."""
        return not self.voice_positions and (self.thoughts_there > self.thoughts_used or not self.wants_thought)

    @property
    def deadline_s(self) -> float:
        """When playback needs the next frame."""
        return self.first_frame_s + self.frames * FRAME_S

    def made_frame(self, now_s: float) -> None:
        """Note a frame made now, and compute when the next one is ready and due."""
        if self.wants_thought:
            self.thoughts_used += 1
        self.first_frame_s = min(self.first_frame_s, now_s)
        self.last_frame_s = now_s
        self.frames += 1
        deadline_s = self.deadline_s
        self.ready_s = deadline_s - self.max_lead_s
        wait_s = min(MAX_BATCHING_WAIT_S / 2, (deadline_s - now_s) / 8)
        self.due_s = max(now_s + wait_s, self.ready_s + min(MAX_BATCHING_WAIT_S, self.max_lead_s / 8))


class SpeechGenerator(Engine[SpeechStream]):
    """The speech generator's engine."""

    _prompts_go_next = True
    _last_chunk_s = -math.inf

    def check_room(self, stream: SpeechStream) -> None:
        """Slots, and the time that a frame of all streams would take. The first stream always passes that."""
        super().check_room(stream)
        stream.admitted_s = self._env.now
        streams, limit = len(self.streams) + 1, self.times.max_load
        if streams > 1 and limit is not None and self.times.seconds("frame", streams) > limit * FRAME_S:
            raise Refused("step_time")

    def take_thoughts(self, stream: SpeechStream, count: int) -> None:
        """Take thoughts of the reply."""
        stream.thoughts_there += count
        self.wake()

    def schedule(self, now_s: float) -> Batch | None:
        """A chunk of voice prompts, or a frame of every stream that may speak once one of them is due."""
        able = [stream for stream in self.streams if stream.is_able]
        prompts = self._waiting_prompts(able, now_s)
        is_due = any(stream.due_s <= now_s for stream in able)
        speakers = [stream for stream in able if stream.ready_s <= now_s] if is_due else []
        if prompts and (self._prompts_go_next or not speakers):
            self._prompts_go_next = False
            self._last_chunk_s = now_s
            return "voice", sum(count for _, count in prompts), prompts
        self._prompts_go_next = True
        return ("frame", len(speakers), speakers) if speakers else None

    def idle_s(self, now_s: float) -> float | None:
        """Seconds until a stream is due."""
        waits = [stream.due_s - now_s for stream in self.streams if stream.is_able]
        return max(0.0, min(waits)) if waits else None

    def finish(self, kind: str, work: Any) -> None:
        """Count prompt positions or frames."""
        now_s = self._env.now
        if kind == "voice":
            for stream, count in work:
                stream.voice_positions -= count
            return
        for stream in work:
            if stream.left:
                continue
            if stream.frames == stream.total_frames:
                stream.ended = True
                self.leave(stream)
            else:
                stream.made_frame(now_s)
            stream.took()

    def _waiting_prompts(self, able: list[SpeechStream], now_s: float) -> list[tuple[SpeechStream, int]]:
        """Parts of prompts for one step, that leaves time for the most urgent speaker's next frame."""
        waiting = [stream for stream in self.streams if stream.voice_positions]
        if not waiting:
            return []
        next_deadline_s = min((stream.deadline_s for stream in able), default=math.inf)
        spare_s = next_deadline_s - now_s - (self.times.seconds("frame", len(able)) if able else 0.0)
        position_s = self.times.lines["voice"].each_s
        room = (CHUNK_SHARE * spare_s - self.times.seconds("frame", 1)) / position_s if position_s else math.inf
        least = 0 if now_s < self._last_chunk_s + MAX_CHUNK_GAP_S else MIN_CHUNK_POSITIONS
        positions = max(int(min(room, PREFILL_POSITIONS)), least)
        parts: list[tuple[SpeechStream, int]] = []
        for stream in waiting:
            if (part := min(positions, stream.voice_positions)) > 0:
                parts.append((stream, part))
                positions -= part
        return parts
