"""What a conversation tells its client, whichever public face carries it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from chroma.v1.reasoner_pb2 import END_REASON_UNSPECIFIED, EndReason
from gateway.store.sessions import Session
from services.common.errors import ChromaError


class Outcome(Enum):
    """How a turn ended."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass
class Timings:
    """When things happened in a turn, in seconds since its commit. None: it did not happen."""

    heard_s: float | None = None
    first_thought_s: float | None = None
    first_frame_s: float | None = None
    first_audio_s: float | None = None
    last_thought_s: float | None = None
    last_frame_s: float | None = None
    last_audio_s: float | None = None

    def mark(self, what: Literal["thought", "frame", "audio"], at_s: float) -> None:
        """Note that one of these came at `at_s`."""
        if getattr(self, f"first_{what}_s") is None:
            setattr(self, f"first_{what}_s", at_s)
        setattr(self, f"last_{what}_s", at_s)


@dataclass(frozen=True)
class Opened:
    """The conversation is open."""

    session: Session


@dataclass(frozen=True)
class TurnStarted:
    """A turn was committed; its reply is on the way."""

    turn_id: str


@dataclass(frozen=True)
class TextDelta:
    """A piece of the reply's text, spoken from `audio_offset_ms` of the reply on."""

    turn_id: str
    text: str
    audio_offset_ms: int


@dataclass(frozen=True)
class AudioDelta:
    """A piece of the reply's speech: 24000 Hz mono, in the encoding the client asked for."""

    turn_id: str
    first_sample: int
    samples: int
    data: bytes


@dataclass(frozen=True)
class TurnDone:
    """A turn ended. Fields as in `TurnDone` of dialogue.proto."""

    turn_id: str
    outcome: Outcome
    error: ChromaError | None = None
    recorded: bool = False
    text: str = ""
    heard_text: str = ""
    input_audio_s: float = 0.0
    output_audio_s: float = 0.0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    speech_end: EndReason.ValueType = END_REASON_UNSPECIFIED
    speech_restarts: int = 0
    dropped_turns: int = 0
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True)
class SpeechStarted:
    """The user's speech began `audio_ms` of the stream of sound, with turn detection."""

    turn_id: str
    audio_ms: int


@dataclass(frozen=True)
class SpeechStopped:
    """The user's speech ended `audio_ms` of the stream of sound, with turn detection."""

    turn_id: str
    audio_ms: int


@dataclass(frozen=True)
class UserTranscript:
    """What the user said in a turn, or why that is not known."""

    turn_id: str
    text: str = ""
    error: ChromaError | None = None


Event = Opened | SpeechStarted | SpeechStopped | TurnStarted | TextDelta | AudioDelta | TurnDone | UserTranscript
