"""The record and the last event of a turn that has ended."""

from __future__ import annotations

from dataclasses import replace

from chroma.v1.generation_pb2 import END_REASON_LIMIT, END_REASON_POSITIONS
from gateway.conversation.output.events import Interrupter, Outcome, TurnDone
from gateway.pipeline.turn import Turn
from gateway.store.records import TurnRecord
from gateway.text.domain import SpeechDomain
from services.common.errors import ChromaError
from services.common.wire.audio import SAMPLE_RATE_HZ

_LIMITS = (END_REASON_LIMIT, END_REASON_POSITIONS)


def record_of(turn: Turn, heard_samples: int | None) -> TurnRecord:
    """The record of the turn. The user heard `heard_samples` of its speech, at 24 kHz. None: it was text only."""
    thoughts = [thought for thought in turn.thoughts if not thought.call]
    if thoughts and thoughts[-1].last and turn.text_end not in _LIMITS:
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
        tool_calls=tuple(turn.tool_calls.values()),
    )
    if heard_samples is None:
        return replace(record, heard_tokens=len(record.texts))
    return record.heard(heard_samples)


def done_event(
    turn: Turn,
    record: TurnRecord,
    outcome: Outcome,
    *,
    sent_samples: int,
    error: ChromaError | None,
    interrupted_by: Interrupter | None,
    recorded: bool,
    dropped_turns: int,
    domain: SpeechDomain | None,
) -> TurnDone:
    """The last event of the turn. `domain`: what its checkpoint can say, if the reply is spoken and that is not all."""
    text = "".join(thought.text for thought in turn.thoughts)
    is_cut = turn.text_end in _LIMITS or turn.speech.reason in _LIMITS
    return TurnDone(
        turn_id=turn.turn_id,
        outcome=outcome,
        error=error,
        interrupted_by=interrupted_by,
        recorded=recorded,
        text=text,
        heard_text=record.heard_text,
        input_audio_s=record.input_audio_s,
        output_audio_s=sent_samples / SAMPLE_RATE_HZ,
        input_tokens=turn.prompt.prompt_tokens,
        cached_tokens=turn.prompt.cached_tokens,
        output_tokens=len(turn.thoughts),
        speech_end=turn.speech.reason,
        is_cut=is_cut,
        speech_restarts=turn.speech.restarts,
        dropped_turns=dropped_turns,
        timings=turn.timings,
        out_of_domain=domain.outside(text, is_cut=is_cut or outcome is not Outcome.COMPLETED) if domain else (),
    )
