"""The events that a conversation sends to its client. Each public API puts them in its own format."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from chroma.v1.reasoner_pb2 import END_REASON_UNSPECIFIED, EndReason
from gateway.pipeline.deltas import AudioDelta, TextDelta, Timings
from gateway.store.sessions import Session
from services.common.errors import ChromaError


class Outcome(Enum):
    """How a turn ended."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True)
class Opened:
    """The conversation is open."""

    session: Session


@dataclass(frozen=True)
class TurnStarted:
    """A turn was committed; its reply is on the way."""

    turn_id: str


@dataclass(frozen=True)
class TurnDone:
    """A turn ended. The fields are those of `TurnDone` in dialogue.proto."""

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
    """Turn detection found that the user's speech began at `audio_ms` of the client's audio."""

    turn_id: str
    audio_ms: int


@dataclass(frozen=True)
class SpeechStopped:
    """Turn detection found that the user's speech ended at `audio_ms` of the client's audio."""

    turn_id: str
    audio_ms: int


@dataclass(frozen=True)
class UserTranscript:
    """The text of the user's speech in a turn, or the error of its transcription."""

    turn_id: str
    text: str = ""
    error: ChromaError | None = None


Event = Opened | SpeechStarted | SpeechStopped | TurnStarted | TextDelta | AudioDelta | TurnDone | UserTranscript
