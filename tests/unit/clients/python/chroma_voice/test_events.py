from __future__ import annotations

import grpc
import pytest

from chroma.v1 import dialogue_pb2, generation_pb2
from chroma_voice import (
    AudioDelta,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    Timings,
    TurnDone,
    Unavailable,
    UserTranscript,
)
from chroma_voice.events import events_from_proto


def test_speech_and_transcripts_are_events() -> None:
    started = dialogue_pb2.SpeechStarted(turn_id="t", audio_ms=1_500)
    stopped = dialogue_pb2.SpeechStopped(turn_id="t", audio_ms=2_500)
    said = dialogue_pb2.UserTranscript(turn_id="t", text="Tacos.")
    assert events_from_proto(dialogue_pb2.ConverseResponse(speech_started=started)) == [SpeechStarted("t", 1.5)]
    assert events_from_proto(dialogue_pb2.ConverseResponse(speech_stopped=stopped)) == [SpeechStopped("t", 2.5)]
    assert events_from_proto(dialogue_pb2.ConverseResponse(user_transcript=said)) == [
        UserTranscript("t", "Tacos.", None)
    ]


def test_text_of_one_message_is_an_event_for_each_piece_with_its_own_time() -> None:
    text = dialogue_pb2.TextDelta(turn_id="t", text="Fold it.", audio_offset_ms=160)
    assert events_from_proto(dialogue_pb2.ConverseResponse(text=text)) == [TextDelta("t", "Fold it.", 0.16)]
    text.parts.add(text="Fold", audio_offset_ms=160)
    text.parts.add(text=" it.", audio_offset_ms=480)
    assert events_from_proto(dialogue_pb2.ConverseResponse(text=text)) == [
        TextDelta("t", "Fold", 0.16),
        TextDelta("t", " it.", 0.48),
    ]


def test_a_missing_transcript_says_why() -> None:
    failed = dialogue_pb2.UserTranscript(turn_id="t")
    failed.error.code, failed.error.message = grpc.StatusCode.UNAVAILABLE.value[0], "busy"
    (event,) = events_from_proto(dialogue_pb2.ConverseResponse(user_transcript=failed))
    assert isinstance(event, UserTranscript)
    assert isinstance(event.error, Unavailable)
    with pytest.raises(Unavailable, match="busy"):
        raise event.error


def test_the_opening_answer_and_an_unknown_message_are_no_events() -> None:
    assert events_from_proto(dialogue_pb2.ConverseResponse(opened=dialogue_pb2.ConverseOpened())) == []
    assert events_from_proto(dialogue_pb2.ConverseResponse()) == []


def test_sound_is_16_bit_samples_at_24_khz() -> None:
    delta = AudioDelta("t", 0, b"\x01\x00\xff\xff")
    assert delta.samples.tolist() == [1, -1]
    assert delta.duration_s == 2 / 24_000


def test_times_that_did_not_happen_are_none_and_zero_is_a_time() -> None:
    timings = Timings.from_proto(dialogue_pb2.TurnTimings(heard_s=0.0, first_audio_s=0.5))
    assert timings == Timings(heard_s=0.0, first_audio_s=0.5)
    assert timings.first_frame_s is None


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (generation_pb2.END_REASON_EOS, "eos"),
        (generation_pb2.END_REASON_GIVEN, "given"),
        (generation_pb2.END_REASON_UNSPECIFIED, ""),
    ],
)
def test_a_completed_turn_names_how_its_speech_ended(reason: generation_pb2.EndReason.ValueType, name: str) -> None:
    done = TurnDone.from_proto(
        dialogue_pb2.TurnDone(outcome=dialogue_pb2.TURN_OUTCOME_COMPLETED, speech_end=reason, recorded=True)
    )
    assert (done.outcome, done.speech_end, done.recorded, done.error) == ("completed", name, True, None)
    done.raise_for_error()


def test_an_outcome_that_this_client_does_not_know_is_a_failure() -> None:
    done = TurnDone.from_proto(dialogue_pb2.TurnDone(error=dialogue_pb2.TurnError(code=14, message="away")))
    assert done.outcome == "failed"
    with pytest.raises(Unavailable, match="away"):
        done.raise_for_error()
