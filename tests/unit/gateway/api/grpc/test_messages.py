"""Sessions, voices and events as messages of the public protos."""

from __future__ import annotations

import grpc
import pytest

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE
from gateway.access.caller import Caller
from gateway.api.grpc.messages import converse_response, session_message, voice_message
from gateway.conversation.output.events import (
    Event,
    Opened,
    Outcome,
    SpeechStarted,
    SpeechStopped,
    TurnDone,
    TurnStarted,
    UserTranscript,
)
from gateway.pipeline.deltas import AudioDelta, TextDelta, TextPiece, Timings
from gateway.store.records import TurnRecord
from gateway.store.sessions import Session
from gateway.store.voices import Voice
from services.common.errors import ResourceExhausted

_SESSION = Session(
    "default",
    "session",
    pb.SessionConfig(voice_id="ada"),
    (TurnRecord("turn-1", user=("hello",), texts=("Good ", "day"), token_ids=(1, 2), heard_tokens=1),),
    dropped_turns=3,
    sequence=1,
    created=100.25,
    expires=200.5,
)

_EVENTS: dict[str, Event] = {
    "opened": Opened(_SESSION),
    "turn_started": TurnStarted("turn-1"),
    "text": TextDelta("turn-1", "Good ", 160),
    "audio": AudioDelta("turn-1", 1_920, 2, bytes(8)),
    "turn_done": TurnDone("turn-1", Outcome.COMPLETED),
    "speech_started": SpeechStarted("turn-1", 40),
    "speech_stopped": SpeechStopped("turn-1", 80),
    "user_transcript": UserTranscript("turn-1", "hello"),
}


@pytest.mark.parametrize("field", _EVENTS)
def test_each_event_has_its_own_field(field: str) -> None:
    assert converse_response(_EVENTS[field], AUDIO_ENCODING_PCM_F32LE).WhichOneof("response") == field


def test_text_that_is_put_together_has_its_pieces_with_their_times() -> None:
    event = TextDelta.of("turn-1", [TextPiece("Good ", 160), TextPiece("day", 320)])
    text = converse_response(event, AUDIO_ENCODING_PCM_F32LE).text
    assert (text.text, text.audio_offset_ms) == ("Good day", 160)
    assert [(part.text, part.audio_offset_ms) for part in text.parts] == [("Good ", 160), ("day", 320)]
    assert not converse_response(_EVENTS["text"], AUDIO_ENCODING_PCM_F32LE).text.parts


def test_opened_names_the_encoding_of_the_reply() -> None:
    output = converse_response(_EVENTS["opened"], AUDIO_ENCODING_PCM_F32LE).opened.output_format
    assert (output.encoding, output.sample_rate_hz) == (AUDIO_ENCODING_PCM_F32LE, 24_000)


def test_a_session_shows_its_turns_and_its_times() -> None:
    message = session_message(_SESSION)
    assert (message.session_id, message.config.voice_id, message.dropped_turns) == ("session", "ada", 3)
    assert [entry.turn_id for entry in message.entries] == ["turn-1", "turn-1"], "the user's entry and the reply's"
    assert (message.create_time.seconds, message.create_time.nanos) == (100, 250_000_000)
    assert (message.expire_time.seconds, message.expire_time.nanos) == (200, 500_000_000)


def test_a_voice_shows_what_people_see_of_it() -> None:
    message = voice_message(Voice("ada", "Ada", "hello", "agreed", 1.5, 100.0), Caller("mine"))
    assert (message.voice_id, message.display_name, message.consent, message.duration_s) == (
        "ada",
        "Ada",
        "agreed",
        1.5,
    )


def test_a_failed_turn_carries_the_status_the_message_and_the_time_to_retry() -> None:
    error = ResourceExhausted("codec: full", retry_after_s=2.5)
    event = TurnDone("turn-1", Outcome.FAILED, error=error, timings=Timings(first_thought_s=0.5))
    done = converse_response(event, AUDIO_ENCODING_PCM_F32LE).turn_done
    assert done.outcome == pb.TURN_OUTCOME_FAILED
    assert done.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert (done.error.message, done.error.retry_after_s) == ("codec: full", 2.5)
    assert done.timings.first_thought_s == 0.5
    assert not done.timings.HasField("first_audio_s")
