"""What the speech generator's runner keeps of a stream, does in a step, and counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from services.common.wire.audio import FRAME_S
from services.runtime.engine.stream import Stream
from services.speech_gen.model.generator import Thought
from services.speech_gen.model.speech import Frame, Speech, SpeechEnd, SpeechRequest
from services.speech_gen.shared_prompts import SharedPrompt

MAX_PATIENCE_S = FRAME_S
"""Longest wait for company of a stream that is as far ahead as it may be."""

Output = Frame | SpeechEnd
SpeechStream = Stream[SpeechRequest, Thought, Output]


@dataclass
class Place:
    """What the runner keeps for an admitted stream: `Stream.state`. Times are seconds of the runner's clock."""

    speech: Speech
    admitted_s: float
    promised_pages: int
    shared_prompt: SharedPrompt | None
    first_frame_s: float = math.inf
    last_frame_s: float = -math.inf

    @property
    def deadline_s(self) -> float:
        """When the listener needs the next frame."""
        return self.first_frame_s + self.speech.frames * FRAME_S

    @property
    def ready_s(self) -> float:
        """From when on the lead bound lets the next frame be made."""
        lead_s = self.speech.request.max_lead_s
        return -math.inf if lead_s is None or self.speech.frames == 0 else self.deadline_s - lead_s

    @property
    def due_s(self) -> float:
        """When the next frame is no longer put off for company: at once for the first ones and for a stream that is
        not paced, and the later, the further the last frame was ahead of the listener.

        A step reads every weight for one stream as for all. A stream that catches up waits an eighth of its lead, so it
        gains on its listener as long as it lags; one that has caught up waits a frame's length, in which everybody
        else who has is ready, too: one step a frame for all of them.
        """
        lead_s = self.speech.request.max_lead_s
        if lead_s is None or self.speech.frames == 0:
            return -math.inf
        patience_s = min(MAX_PATIENCE_S / 2, (self.deadline_s - self.last_frame_s) / 8)
        return max(self.last_frame_s + patience_s, self.ready_s + min(MAX_PATIENCE_S, lead_s / 8))

    @property
    def urgency(self) -> tuple[bool, float]:
        """Sort key of speakers, smallest first."""
        return (False, self.admitted_s) if self.speech.frames == 0 else (True, self.deadline_s)


@dataclass
class Batch:
    """The work of one step: chunks of prompts as (stream, rows), or a frame of each stream in `speakers`."""

    prompts: list[tuple[SpeechStream, int]] = field(default_factory=list)
    speakers: list[SpeechStream] = field(default_factory=list)


@dataclass
class Counters:
    """What has happened since the start. Prompt rows are those computed, shared rows those taken over."""

    steps: int = 0
    frames: int = 0
    prompt_rows: int = 0
    shared_rows: int = 0
