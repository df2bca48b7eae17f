"""Converts sessions, voices, consents and events to messages of the public protos."""

from __future__ import annotations

from dataclasses import asdict

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from chroma.v1 import consent_pb2, erasure_pb2
from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.audio_pb2 import AudioEncoding, AudioFormat, Pcm
from chroma.v1.tools_pb2 import ToolCall
from gateway.access.caller import Caller, Scope
from gateway.conversation.output.events import (
    EndsSoon,
    Event,
    Opened,
    Outcome,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
    TurnDone,
    TurnStarted,
    UserTranscript,
)
from gateway.pipeline.deltas import AudioDelta, TextDelta, ToolCallMade
from gateway.pipeline.erasure.erasure import Erasure
from gateway.store.consents import Consent
from gateway.store.sessions import Session
from gateway.store.voices import Voice
from services.common.errors import ChromaError, ResourceExhausted
from services.common.wire.audio import SAMPLE_RATE_HZ

_OUTCOMES = {
    Outcome.COMPLETED: pb.TURN_OUTCOME_COMPLETED,
    Outcome.INTERRUPTED: pb.TURN_OUTCOME_INTERRUPTED,
    Outcome.FAILED: pb.TURN_OUTCOME_FAILED,
}


def session_message(session: Session) -> pb.Session:
    """Return the message of a session, with its turns."""
    return pb.Session(
        session_id=session.session_id,
        config=session.config,
        entries=[entry for turn in session.turns for entry in turn.entries()],
        dropped_turns=session.dropped_turns,
        create_time=_timestamp(session.created),
        expire_time=_timestamp(session.expires),
    )


def voice_message(voice: Voice, caller: Caller) -> pb.Voice:
    """Return the message of a voice. The words of its consent name a person: they are for callers with the scope
    `voices`."""
    return pb.Voice(
        voice_id=voice.voice_id,
        display_name=voice.display_name,
        transcript=voice.transcript,
        duration_s=voice.duration_s,
        create_time=_timestamp(voice.created),
        consent=voice.consent if Scope.VOICES in caller.scopes else "",
        consent_id=voice.consent_id,
    )


def consent_message(consent: Consent) -> consent_pb2.Consent:
    """Return the message of a consent."""
    voices = [
        consent_pb2.ConsentedVoice(
            voice_id=voice.voice_id,
            create_time=_timestamp(voice.created),
            erase_time=_timestamp(voice.erased) if voice.erased else None,
        )
        for voice in consent.voices
    ]
    return consent_pb2.Consent(
        consent_id=consent.consent_id,
        subject=consent.subject,
        words=consent.words,
        recording_sha256=consent.recording_sha256,
        tenant=consent.tenant,
        key_id=consent.key_id,
        create_time=_timestamp(consent.created),
        revoke_time=_timestamp(consent.revoked) if consent.revoked else None,
        revoked_by=consent.revoked_by,
        voices=voices,
    )


def erasure_message(erasure: Erasure) -> erasure_pb2.Erasure:
    """Return the message of an erasure."""
    return erasure_pb2.Erasure(**asdict(erasure))


def converse_response(event: Event, output_encoding: AudioEncoding.ValueType) -> pb.ConverseResponse:
    """Return the message of an event. `output_encoding` is the encoding of the reply's audio."""
    match event:
        case Opened():
            output_format = AudioFormat(encoding=output_encoding, sample_rate_hz=SAMPLE_RATE_HZ)
            opened = pb.ConverseOpened(
                session=session_message(event.session), output_format=output_format, renders_tools=event.renders_tools
            )
            return pb.ConverseResponse(opened=opened)
        case TurnStarted():
            return pb.ConverseResponse(turn_started=pb.TurnStarted(turn_id=event.turn_id))
        case TextDelta():
            parts = [pb.TextPiece(text=part.text, audio_offset_ms=part.audio_offset_ms) for part in event.parts]
            text = pb.TextDelta(
                turn_id=event.turn_id, text=event.text, audio_offset_ms=event.audio_offset_ms, parts=parts
            )
            return pb.ConverseResponse(text=text)
        case AudioDelta():
            pcm = Pcm(first_sample=event.first_sample, data=event.data)
            return pb.ConverseResponse(audio=pb.AudioDelta(turn_id=event.turn_id, pcm=pcm))
        case ToolCallMade():
            call = ToolCall(call_id=event.call_id, name=event.name, arguments=event.arguments)
            return pb.ConverseResponse(tool_call=pb.ToolCallMade(turn_id=event.turn_id, call=call))
        case TurnDone():
            return pb.ConverseResponse(turn_done=_turn_done(event))
        case SpeechStarted():
            started = pb.SpeechStarted(turn_id=event.turn_id, audio_ms=event.audio_ms)
            return pb.ConverseResponse(speech_started=started)
        case SpeechStopped():
            stopped = pb.SpeechStopped(turn_id=event.turn_id, audio_ms=event.audio_ms)
            return pb.ConverseResponse(speech_stopped=stopped)
        case UserTranscript():
            error = _turn_error(event.error) if event.error is not None else None
            transcript = pb.UserTranscript(turn_id=event.turn_id, text=event.text, error=error)
            return pb.ConverseResponse(user_transcript=transcript)
        case EndsSoon():
            told = pb.EndsSoon(in_s=event.in_s, idle=event.is_idle, draining=event.is_drain)
            return pb.ConverseResponse(ends_soon=told)
        case TranscriptDelta():
            raise AssertionError("conversations over gRPC ask for no transcript in pieces")


def _turn_done(event: TurnDone) -> pb.TurnDone:
    return pb.TurnDone(
        turn_id=event.turn_id,
        outcome=_OUTCOMES[event.outcome],
        error=_turn_error(event.error) if event.error is not None else None,
        recorded=event.recorded,
        text=event.text,
        heard_text=event.heard_text,
        input_audio_s=event.input_audio_s,
        output_audio_s=event.output_audio_s,
        input_tokens=event.input_tokens,
        cached_tokens=event.cached_tokens,
        output_tokens=event.output_tokens,
        speech_end=event.speech_end,
        speech_restarts=event.speech_restarts,
        dropped_turns=event.dropped_turns,
        timings=pb.TurnTimings(**asdict(event.timings)),
        out_of_domain=event.out_of_domain,
    )


def _turn_error(error: ChromaError) -> pb.TurnError:
    code: int = grpc.StatusCode[error.status].value[0]
    retry_after_s = error.retry_after_s if isinstance(error, ResourceExhausted) else None
    return pb.TurnError(code=code, message=error.message, retry_after_s=retry_after_s)


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
