from __future__ import annotations

import base64

import pytest

from chroma_voice.bench.targets.realtime_events import Translator
from chroma_voice.bench.targets.target import ReplyEnded, ReplyStarted, Sound, SpeechHeard
from chroma_voice.errors import FailedPrecondition

DELTA = base64.b64encode(b"\1\2").decode()


def test_a_response_of_the_present_names() -> None:
    translator = Translator()
    events = [
        {"type": "response.created", "response": {"id": "r1"}},
        {"type": "response.output_audio_transcript.delta", "response_id": "r1", "delta": "Hello"},
        {"type": "response.output_audio.delta", "response_id": "r1", "item_id": "i1", "delta": DELTA},
        {"type": "response.done", "response": {"id": "r1", "status": "completed"}},
    ]
    found = [each for event in events for each in translator.translate(event)]
    assert found == [ReplyStarted("r1"), Sound("r1", b"\1\2"), ReplyEnded("r1", "completed")]
    assert translator.item_id == "i1"


def test_a_server_of_the_beta_names_without_ids_or_a_beginning() -> None:
    translator = Translator()
    events = [
        {"type": "response.audio.delta", "delta": DELTA},
        {"type": "response.audio.delta", "delta": DELTA},
        {"type": "response.done"},
    ]
    found = [each for event in events for each in translator.translate(event)]
    name = "response 1"
    assert found == [ReplyStarted(name), Sound(name, b"\1\2"), Sound(name, b"\1\2"), ReplyEnded(name, "completed")]


@pytest.mark.parametrize(
    ("response", "ended"),
    [
        ({"status": "cancelled"}, ReplyEnded("r", "interrupted")),
        ({"status": "incomplete"}, ReplyEnded("r", "completed")),
        (
            {"status": "failed", "status_details": {"error": {"code": "full", "message": "no slot"}}},
            ReplyEnded("r", "failed", "full", "no slot"),
        ),
        ({"status": "failed"}, ReplyEnded("r", "failed", "failed", "")),
    ],
)
def test_how_a_response_ended(response: dict[str, object], ended: ReplyEnded) -> None:
    assert Translator().translate({"type": "response.done", "response": {"id": "r", **response}}) == [ended]


def test_an_error_fails_the_response_that_is_owed_and_no_other() -> None:
    translator = Translator()
    error = {"type": "error", "error": {"type": "server_error", "code": "full", "message": "no slot"}}
    harmless = {"type": "error", "error": {"code": "response_cancel_not_active", "message": "no response"}}
    assert translator.translate(error) == []
    translator.asked()
    assert translator.translate(harmless) == []
    assert translator.translate(error) == [ReplyEnded("", "failed", "full", "no slot")]
    assert translator.translate(error) == []


def test_speech_is_heard_and_other_events_are_ignored() -> None:
    translator = Translator()
    assert translator.translate({"type": "input_audio_buffer.speech_started"}) == [SpeechHeard()]
    assert translator.translate({"type": "rate_limits.updated"}) == []


@pytest.mark.parametrize("delta", [None, "***", 7])
def test_sound_that_is_no_base64_is_refused(delta: object) -> None:
    with pytest.raises(FailedPrecondition, match="base64"):
        Translator().translate({"type": "response.output_audio.delta", "delta": delta})
