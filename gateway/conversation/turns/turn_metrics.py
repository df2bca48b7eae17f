"""The span, the metrics and the log line of one turn."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.conversation.output.events import Outcome, TurnDone
from gateway.conversation.output.playback_clock import PlaybackClock
from gateway.metrics import (
    BARGE_INS,
    FIRST_SOUND_SECONDS,
    INPUT_SECONDS,
    OUTPUT_SECONDS,
    STAGE_SECONDS,
    TURN_UNDERRUN_SECONDS,
    TURNS,
    UNHEARD_SECONDS,
    UNRECORDED,
)
from gateway.pipeline.turn import Turn
from gateway.pipeline.turn_input import ForcedReply
from services.common.errors import ResourceExhausted
from services.common.telemetry.tracing import Field, SpanKind, trace
from services.common.wire.audio import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)


@contextmanager
def turn_trace(turn: Turn, playback: PlaybackClock) -> Iterator[None]:
    """The span of a turn, from its first input to the end of its reply. Its marks are the turn's timings."""
    with trace("turn", SpanKind.SERVER, reply=_reply_of(turn)) as span:
        turn.trace_id = span.trace_id
        try:
            yield
        finally:
            committed_s = span.marks.get("committed")
            if committed_s is not None:
                span.marks |= {
                    name.removesuffix("_s"): committed_s + at_s
                    for name, at_s in vars(turn.timings).items()
                    if at_s is not None
                }
                if playback.first_s is not None:
                    span.marks["first_sound"] = committed_s + playback.first_s - turn.committed_s


def turn_ended(turn: Turn, done: TurnDone, playback: PlaybackClock, *, unrecorded: bool = False) -> None:
    """Count the turn and log how it went. The log has no words of the user or the reply.

    `unrecorded`: the turn belongs into a session and the store did not take it.
    """
    reply, status = _reply_of(turn), _status_of(done)
    TURNS.labels(done.outcome.value, status, reply).inc()
    INPUT_SECONDS.inc(done.input_audio_s)
    OUTPUT_SECONDS.inc(done.output_audio_s)
    if done.outcome is Outcome.INTERRUPTED:
        BARGE_INS.inc()
        UNHEARD_SECONDS.inc(max(0.0, turn.samples / SAMPLE_RATE_HZ - done.output_audio_s))
    if unrecorded:
        UNRECORDED.inc()
    first_sound_s = None if playback.first_s is None else playback.first_s - turn.committed_s
    if first_sound_s is not None:
        exemplar = {"turn": turn.turn_id, "trace_id": turn.trace_id}
        FIRST_SOUND_SECONDS.labels(reply).observe(first_sound_s, exemplar)
        TURN_UNDERRUN_SECONDS.observe(playback.silence_s, exemplar)
        if reply == "generated":
            _observe_upstreams(turn, first_sound_s)
    fields: dict[str, Field | None] = {
        "turn": turn.turn_id,
        "outcome": done.outcome.value,
        "status": status,
        "reply": reply,
        "recorded": done.recorded,
        "first_sound_s": first_sound_s,
        "underruns": playback.underruns,
        "silence_s": playback.silence_s,
        "input_audio_s": done.input_audio_s,
        "output_audio_s": done.output_audio_s,
        "input_tokens": done.input_tokens,
        "cached_tokens": done.cached_tokens,
        "output_tokens": done.output_tokens,
    }
    why = f": {done.error.message}" if done.error else ""
    log.info("turn %s%s", done.outcome.value, why, extra={"fields": fields})


def _status_of(done: TurnDone) -> str:
    """The gRPC status of the turn. `KEY_LIMIT` is a refusal by a limit of the caller's own, which is no failure."""
    error = done.error
    if isinstance(error, ResourceExhausted) and error.resource.startswith("key_"):
        return "KEY_LIMIT"
    return error.status if error else "OK"


def _reply_of(turn: Turn) -> str:
    return "given" if isinstance(turn.source, ForcedReply) else "generated"


def _observe_upstreams(turn: Turn, first_sound_s: float) -> None:
    times = turn.timings
    before_s = 0.0
    for stage, at_s in (
        ("hearing", times.heard_s if times.heard_s is not None else times.first_thought_s),
        ("first_thought", times.first_thought_s),
        ("first_frame", times.first_frame_s),
        ("first_pcm", times.first_audio_s),
        ("gateway", first_sound_s),
    ):
        if at_s is not None:
            STAGE_SECONDS.labels(stage).observe(max(0.0, at_s - before_s))
            before_s = at_s
