"""The events of a conversation, and their translation from the wire messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chroma.v1 import dialogue_pb2, generation_pb2
from chroma_voice.errors import ChromaError, from_code

SAMPLE_RATE_HZ = 24_000
"""Sample rate of the audio of all replies."""


@dataclass(frozen=True)
class SpeechStarted:
    """The server detected the start of the user's speech, `audio_s` seconds after the start of the input audio."""

    turn_id: str
    audio_s: float


@dataclass(frozen=True)
class SpeechStopped:
    """The server detected the end of the user's speech, `audio_s` seconds after the start of the input audio."""

    turn_id: str
    audio_s: float


@dataclass(frozen=True)
class UserTranscript:
    """The user's words in a turn; it comes after the turn's `TurnDone`. `error` is set when transcription failed."""

    turn_id: str
    text: str
    error: ChromaError | None


@dataclass(frozen=True)
class TurnStarted:
    """A turn was committed, and its reply has started."""

    turn_id: str


@dataclass(frozen=True)
class TextDelta:
    """A piece of the reply's text; its speech starts `audio_offset_s` into the reply's audio."""

    turn_id: str
    text: str
    audio_offset_s: float


@dataclass(frozen=True)
class AudioDelta:
    """A piece of the reply's sound: 16-bit little-endian mono PCM at 24 kHz, from sample `first_sample` on."""

    turn_id: str
    first_sample: int
    data: bytes

    @property
    def samples(self) -> NDArray[np.int16]:
        """The samples, [S]."""
        return np.frombuffer(self.data, dtype="<i2")

    @property
    def duration_s(self) -> float:
        """Seconds of sound."""
        return len(self.data) / 2 / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Timings:
    """Times of a turn, in seconds since its commit, by the gateway's clock. None: it did not happen.

    `heard_s`: the user's turn was encoded and prefilled. Thoughts, frames and audio: the first and the last of each.
    """

    heard_s: float | None = None
    first_thought_s: float | None = None
    first_frame_s: float | None = None
    first_audio_s: float | None = None
    last_thought_s: float | None = None
    last_frame_s: float | None = None
    last_audio_s: float | None = None

    @classmethod
    def from_proto(cls, timings: dialogue_pb2.TurnTimings) -> Timings:
        """Return the value of the wire message."""
        return cls(**{field.name: value for field, value in timings.ListFields()})


Outcome = Literal["completed", "interrupted", "failed"]

_OUTCOMES: dict[int, Outcome] = {
    dialogue_pb2.TURN_OUTCOME_COMPLETED: "completed",
    dialogue_pb2.TURN_OUTCOME_INTERRUPTED: "interrupted",
    dialogue_pb2.TURN_OUTCOME_FAILED: "failed",
}


@dataclass(frozen=True)
class TurnDone:
    """The end of a turn. `error` is set when the turn failed.

    `recorded`: the session's store has the turn. `heard_text`: the part of `text` that was played, an upper bound.
    `speech_end`: why the speech ended: "eos", "limit", "positions", "given", or "" when it did not end by itself.
    `out_of_domain`: the sentences that the checkpoint cannot say, by its own card; expect their speech to be wrong.
    """

    turn_id: str
    outcome: Outcome
    error: ChromaError | None
    recorded: bool
    text: str
    heard_text: str
    input_audio_s: float
    output_audio_s: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    speech_end: str
    speech_restarts: int
    dropped_turns: int
    timings: Timings
    out_of_domain: tuple[str, ...] = ()

    def raise_for_error(self) -> None:
        """Raise the turn's error if the turn failed."""
        if self.error is not None:
            raise self.error

    @classmethod
    def from_proto(cls, done: dialogue_pb2.TurnDone) -> TurnDone:
        """Return the value of the wire message."""
        outcome = _OUTCOMES.get(done.outcome, "failed")
        error = None
        if outcome == "failed":
            error = _error_of(done.error)
        speech_end = generation_pb2.EndReason.Name(done.speech_end).removeprefix("END_REASON_").lower()
        return cls(
            turn_id=done.turn_id,
            outcome=outcome,
            error=error,
            recorded=done.recorded,
            text=done.text,
            heard_text=done.heard_text,
            input_audio_s=done.input_audio_s,
            output_audio_s=done.output_audio_s,
            input_tokens=done.input_tokens,
            cached_tokens=done.cached_tokens,
            output_tokens=done.output_tokens,
            speech_end="" if speech_end == "unspecified" else speech_end,
            speech_restarts=done.speech_restarts,
            dropped_turns=done.dropped_turns,
            timings=Timings.from_proto(done.timings),
            out_of_domain=tuple(done.out_of_domain),
        )


@dataclass(frozen=True)
class ToolCall:
    """A tool call of the model. `arguments` is a JSON object as text. Answer it with `Conversation.answer`."""

    turn_id: str
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class EndsSoon:
    """The conversation will end in `in_s` seconds, with DEADLINE_EXCEEDED, or with UNAVAILABLE when `draining`.

    With `idle` because nothing happens in it: then it goes on if the caller sends anything. With `draining` because the
    gateway will be replaced. Else it is nearly as long as the server allows. Its session goes on in another
    conversation.
    """

    in_s: float
    idle: bool
    draining: bool = False


Event = (
    SpeechStarted
    | SpeechStopped
    | TurnStarted
    | TextDelta
    | AudioDelta
    | ToolCall
    | TurnDone
    | UserTranscript
    | EndsSoon
)


def events_from_proto(response: dialogue_pb2.ConverseResponse) -> list[Event]:
    """Return the events of a wire message, in order; none for `opened` and for messages that this version does not
    know."""
    if response.WhichOneof("response") == "text":
        delta = response.text
        pieces = delta.parts or [delta]
        return [TextDelta(delta.turn_id, piece.text, piece.audio_offset_ms / 1000) for piece in pieces]
    event = _event_from_proto(response)
    return [] if event is None else [event]


def _event_from_proto(response: dialogue_pb2.ConverseResponse) -> Event | None:
    match response.WhichOneof("response"):
        case "turn_started":
            return TurnStarted(response.turn_started.turn_id)
        case "audio":
            audio = response.audio
            return AudioDelta(audio.turn_id, audio.pcm.first_sample, audio.pcm.data)
        case "tool_call":
            made = response.tool_call
            return ToolCall(made.turn_id, made.call.call_id, made.call.name, made.call.arguments)
        case "turn_done":
            return TurnDone.from_proto(response.turn_done)
        case "speech_started":
            return SpeechStarted(response.speech_started.turn_id, response.speech_started.audio_ms / 1000)
        case "speech_stopped":
            return SpeechStopped(response.speech_stopped.turn_id, response.speech_stopped.audio_ms / 1000)
        case "user_transcript":
            said = response.user_transcript
            return UserTranscript(said.turn_id, said.text, _error_of(said.error) if said.HasField("error") else None)
        case "ends_soon":
            told = response.ends_soon
            return EndsSoon(told.in_s, told.idle, told.draining)
        case _:
            return None


def _error_of(error: dialogue_pb2.TurnError) -> ChromaError:
    retry_after_s = error.retry_after_s if error.HasField("retry_after_s") else None
    return from_code(error.code, error.message, retry_after_s=retry_after_s)
