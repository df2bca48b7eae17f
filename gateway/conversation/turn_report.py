"""The record and the last event of a turn that has ended."""

from __future__ import annotations

from dataclasses import replace

from chroma.v1.reasoner_pb2 import END_REASON_LIMIT, END_REASON_POSITIONS
from gateway.conversation.events import Outcome, TurnDone
from gateway.pipeline.turn import Turn
from gateway.store.records import TurnRecord
from services.common.errors import ChromaError
from services.common.wire.audio import SAMPLE_RATE_HZ


def record_of(turn: Turn, heard_samples: int | None) -> TurnRecord:
    """The record of the turn. The user heard `heard_samples` of its speech, at 24 kHz. None: it was text only."""
    thoughts = turn.thoughts
    if thoughts and thoughts[-1].last and turn.text_end not in (END_REASON_LIMIT, END_REASON_POSITIONS):
        thoughts = thoughts[:-1]  # im_end, which history leaves out
    source = turn.source
    record = TurnRecord(
        turn_id=turn.turn_id,
        user=tuple(part if isinstance(part, str) else bytes(part) for part in source.parts),
        encoding=source.encoding,
        input_audio_s=source.audio_s,
        token_ids=tuple(thought.token_id for thought in thoughts),
        texts=tuple(thought.text for thought in thoughts),
        output_audio_s=turn.samples / SAMPLE_RATE_HZ,
    )
    if heard_samples is None:
        return replace(record, heard_tokens=len(record.texts))
    return record.heard(heard_samples)


def injected_record(turn: Turn, text: str) -> TurnRecord:
    """A turn of the past whose reply the client gives: the text, without token ids."""
    return replace(record_of(turn, None), texts=(text,), heard_tokens=1)


def done_event(
    turn: Turn,
    record: TurnRecord,
    outcome: Outcome,
    *,
    sent_samples: int,
    error: ChromaError | None,
    recorded: bool,
    dropped_turns: int,
) -> TurnDone:
    """The last event of the turn."""
    return TurnDone(
        turn_id=turn.turn_id,
        outcome=outcome,
        error=error,
        recorded=recorded,
        text="".join(thought.text for thought in turn.thoughts),
        heard_text=record.heard_text,
        input_audio_s=record.input_audio_s,
        output_audio_s=sent_samples / SAMPLE_RATE_HZ,
        input_tokens=turn.prompt.prompt_tokens,
        cached_tokens=turn.prompt.cached_tokens,
        output_tokens=len(turn.thoughts),
        speech_end=turn.speech.reason,
        speech_restarts=turn.speech.restarts,
        dropped_turns=dropped_turns,
        timings=turn.timings,
    )
