"""The events that a conversation sends to its client. Each public API puts them in its own format."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from chroma.v1.generation_pb2 import END_REASON_UNSPECIFIED, EndReason
from gateway.pipeline.deltas import AudioDelta, TextDelta, Timings, ToolCallMade
from gateway.store.sessions import Session
from services.common.errors import ChromaError

Interrupter = Literal["client", "speech"]
"""What interrupted a reply: a message of the client, or the user's speech."""


class Outcome(Enum):
    """How a turn ended."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True)
class Opened:
    """The conversation is open."""

    session: Session
    renders_tools: bool = False
    """Whether the checkpoint's chat template renders tools."""


@dataclass(frozen=True)
class TurnStarted:
    """A turn was committed; its reply is on the way."""

    turn_id: str


@dataclass(frozen=True)
class TurnDone:
    """A turn ended. The fields are those of `TurnDone` in dialogue.proto, and what interrupted its reply."""

    turn_id: str
    outcome: Outcome
    error: ChromaError | None = None
    interrupted_by: Interrupter | None = None
    recorded: bool = False
    text: str = ""
    heard_text: str = ""
    input_audio_s: float = 0.0
    output_audio_s: float = 0.0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    speech_end: EndReason.ValueType = END_REASON_UNSPECIFIED
    is_cut: bool = False
    """Whether a limit ended the reply before its end: of tokens, of seconds, or the model's positions."""
    speech_restarts: int = 0
    dropped_turns: int = 0
    timings: Timings = field(default_factory=Timings)
    out_of_domain: tuple[str, ...] = ()
    """The sentences of a spoken reply that the checkpoint cannot say, by its card."""


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
    recording_id: str = ""
    """The recording that the speech became."""


@dataclass(frozen=True)
class TranscriptDelta:
    """A piece of the transcript of one recording, which may still be under way."""

    recording_id: str
    text: str
    is_early: bool = False
    """Whether the recording is under way."""


@dataclass(frozen=True)
class UserTranscript:
    """The text of the user's speech in a turn, or the error of its transcription.

    With `recording_id` it is the text of this recording alone, of `audio_s` seconds.
    """

    turn_id: str
    text: str = ""
    error: ChromaError | None = None
    recording_id: str = ""
    audio_s: float = 0.0


@dataclass(frozen=True)
class EndsSoon:
    """The conversation ends in `in_s` seconds: it is nearly as long as it may be, or, with `is_idle`, unless something
    happens in it. With `is_drain` the gateway drains, and a running turn goes on to its end."""

    in_s: float
    is_idle: bool
    is_drain: bool = False


Event = (
    Opened
    | SpeechStarted
    | SpeechStopped
    | TurnStarted
    | TextDelta
    | AudioDelta
    | ToolCallMade
    | TurnDone
    | TranscriptDelta
    | UserTranscript
    | EndsSoon
)
