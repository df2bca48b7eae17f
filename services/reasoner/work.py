"""What the reasoner's runner does in a step, and counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.common.errors import ChromaError
from services.reasoner.messages import TurnInput, TurnOpen, TurnOutput
from services.reasoner.model.prompt_rows import StaleChunk
from services.reasoner.request import Turn
from services.runtime.engine.stream import End, Stream

ThinkStream = Stream[TurnOpen, TurnInput, TurnOutput]
Outputs = list[tuple[ThinkStream, TurnOutput | End]]


@dataclass
class Work:
    """One step: at most one of the three lists has entries, and `failed` streams end beside it."""

    think: list[ThinkStream] = field(default_factory=list)
    prefill: list[tuple[ThinkStream, int]] = field(default_factory=list)
    hear: list[tuple[ThinkStream, StaleChunk]] = field(default_factory=list)
    failed: list[tuple[ThinkStream, ChromaError]] = field(default_factory=list)


@dataclass
class Counters:
    """What has happened since the start. Prompt rows are those computed, shared rows those taken over; redone chunks
    are those of streams that have ended."""

    prompt_rows: int = 0
    shared_rows: int = 0
    redone_chunks: int = 0


def has_input(stream: ThinkStream) -> bool:
    """Whether a stream has input to work off, or its end to be told."""
    turn: Turn = stream.state
    if turn.has_backlog:
        return True
    return turn.wants_input and (bool(stream.inbox) or (stream.input_ended and not turn.input_complete))
