"""Settings that a client sends: which have an effect, and which are ignored and named."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.realtime.events.client_events import ResponseIn
from gateway.api.realtime.session.session import RealtimeSession
from gateway.api.realtime.session.update import SessionIn, ignored_fields

_SESSION = RealtimeSession("s", "m", "ada", "Be kind.")
_TOOL = {"type": "function", "name": "weather", "parameters": {}}


def _ignored(**fields: Any) -> list[str]:
    return ignored_fields(fields, SessionIn, "session")


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"tools": [_TOOL], "tool_choice": "required", "parallel_tool_calls": False}, []),
        ({"audio": {"input": {"noise_reduction": {"type": "near_field"}}}}, ["audio.input.noise_reduction"]),
        ({"audio": {"output": {"speed": 1.1}}}, ["audio.output.speed"]),
        ({"audio": {"input": {"transcription": {"language": "en"}}}}, ["audio.input.transcription.language"]),
        ({"turn_detection": {"idle_timeout_ms": 6_000}}, ["turn_detection.idle_timeout_ms"]),
        ({"prompt": {"id": "p"}, "tracing": "auto", "truncation": "disabled"}, ["prompt", "tracing", "truncation"]),
        ({"include": ["item.input_audio_transcription.logprobs"], "reasoning": {}}, ["include", "reasoning"]),
        ({"reasoning": {"effort": "low"}, "colour": "red"}, ["reasoning", "colour"]),
    ],
    ids=str,
)
def test_a_field_without_an_effect_is_ignored_and_named_and_the_others_apply(
    fields: dict[str, Any], names: list[str]
) -> None:
    assert _ignored(**fields) == [f"session.{name}" for name in names]
    update = SessionIn.model_validate({**fields, "instructions": "Be brief.", "voice": "bob"})
    updated = _SESSION.updated(update)
    assert (updated.instructions, updated.voice) == ("Be brief.", "bob")


def test_a_session_object_that_is_sent_back_has_no_ignored_field() -> None:
    for session in (_SESSION.to_dict(60), _SESSION.to_beta_dict(60)):
        assert _ignored(**session) == []
        assert _SESSION.updated(SessionIn.model_validate(session)).options == _SESSION.options


def test_the_fields_of_a_response_are_named_after_it() -> None:
    assert ignored_fields({"tools": [_TOOL], "prompt": {}}, ResponseIn, "response") == ["response.prompt"]


def test_what_is_no_object_has_no_ignored_fields() -> None:
    assert ignored_fields("text", SessionIn, "session") == []
    assert _ignored(audio=3) == []
