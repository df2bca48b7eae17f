"""What enters and leaves the speech generator's engine, besides the thoughts (`model/generator.py`)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.common.errors import InvalidArgument
from services.common.sampling import SamplingParams
from services.speech_gen.model.voice import VoicePrompt


class EndReason(enum.Enum):
    """Why speech ended."""

    EOS = "eos"
    MAX_FRAMES = "max_frames"
    POSITIONS = "positions"
    """The backbone's positions ran out, and the speech could not go on in a new segment."""


@dataclass(frozen=True)
class SpeechRequest:
    """What opens a stream. Raises `InvalidArgument` for a value out of range.

    `max_frames` >= 1 bounds the speech, in frames of 80 ms. `max_lead_s` > 0 bounds how many seconds of sound are made
    ahead of playback in real time; None: no bound. `keep_voice`: whether the voice prompt's keys and values may be kept
    for later streams.
    """

    voice: VoicePrompt
    sampling: SamplingParams
    max_frames: int
    max_lead_s: float | None = None
    keep_voice: bool = True

    def __post_init__(self) -> None:
        if self.max_frames < 1:
            raise InvalidArgument(f"max_frames: expected at least 1, got {self.max_frames}")
        if self.max_lead_s is not None and not self.max_lead_s > 0:
            raise InvalidArgument(f"max_lead_s: expected a number above 0, got {self.max_lead_s}")


@dataclass(frozen=True)
class Frame:
    """80 ms of sound: one code for each codebook. `index` counts a stream's frames from 0.

    `voiced` is false for a last frame that has EOS in every codebook but the last: the reference counts this frame,
    but it is not to be played.
    """

    index: int
    codes: tuple[int, ...]
    voiced: bool


@dataclass(frozen=True)
class SpeechEnd:
    """The last output of a stream: why it ended and what it took.

    `frames` and `thoughts` count what was put out and what came in. `prompt_positions` of the voice prompt were
    computed for this stream; `shared_positions` came from an earlier stream with the same voice. `restarts` counts
    the segments after the first. `dropped_frame` holds the codes of an ending frame that has EOS in every codebook:
    the reference does not count it, so it is no `Frame`.
    """

    reason: EndReason
    frames: int
    thoughts: int
    prompt_positions: int
    shared_positions: int
    dropped_frame: tuple[int, ...] | None = None
    restarts: int = 0


Output = Frame | SpeechEnd
