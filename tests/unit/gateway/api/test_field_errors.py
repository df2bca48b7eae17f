"""Fields that are wrong, in the names of the protocol and in plain sentences."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.api.errors import BadParameter
from gateway.api.field_errors import fit
from gateway.api.openai.audio.speech import SpeechRequest
from gateway.api.openai.chat.request import ChatRequest
from gateway.api.openai.responses.request import ResponsesRequest
from gateway.api.realtime.events.client_events import ItemCreate, ResponseCreate, SessionUpdate

_AUDIO = {"type": "input_audio", "input_audio": {"data": 3, "format": "webm"}}
_IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def _chat(content: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def _detection(**fields: Any) -> dict[str, Any]:
    return {"session": {"audio": {"input": {"turn_detection": fields}}}}


@pytest.mark.parametrize(
    ("model", "request_fields", "param", "message"),
    [
        (
            ChatRequest,
            _chat([_AUDIO]),
            "messages.0.content.0.input_audio.data",
            "expected a string, got 3",
        ),
        (ChatRequest, _chat(3), "messages.0.content", "expected a string or a list, got 3"),
        (ChatRequest, _chat([{"text": "hi"}]), "messages.0.content.0.type", "the field is missing"),
        (ChatRequest, {"messages": []}, "messages", "expected a list of at least 1 entries, got a list"),
        (ChatRequest, {"messages": None}, "messages", "expected a list, got null"),
        (ChatRequest, {}, "messages", "the field is missing"),
        (ChatRequest, [], "body", "expected an object, got a list"),
        (ChatRequest, {**_chat("a"), "max_tokens": 0}, "max_tokens", "expected a number of at least 1, got 0"),
        (SpeechRequest, {"input": "a", "voice": 3}, "voice", "got 3"),
        (
            ResponsesRequest,
            {"input": "a", "tools": [{"type": "web_search"}]},
            "tools.0.type",
            "expected 'function', got 'web_search'",
        ),
        (SessionUpdate, {}, "session", "the field is missing"),
        (SessionUpdate, {"session": "x"}, "session", "expected an object, got 'x'"),
        (SessionUpdate, {"session": {"type": "other"}}, "session.type", "expected 'realtime' or 'transcription'"),
        (
            SessionUpdate,
            {"session": {"max_output_tokens": 0}},
            "session.max_output_tokens",
            "expected a number of at least 1 or 'inf', got 0",
        ),
        (
            SessionUpdate,
            {"session": {"max_output_tokens": 2**31}},
            "session.max_output_tokens",
            "expected a number of at most 2147483647 or 'inf', got 2147483648",
        ),
        (
            SessionUpdate,
            _detection(threshold=1.5),
            "session.audio.input.turn_detection.threshold",
            "expected a number of at most 1, got 1.5",
        ),
        (
            SessionUpdate,
            {"session": {"audio": {"input": {"turn_detection": "on"}}}},
            "session.audio.input.turn_detection",
            "expected an object or false, got 'on'",
        ),
        (
            ResponseCreate,
            {"response": {"metadata": {"a": "b" * 513}}},
            "response.metadata.a",
            "expected a string of at most 512 characters, got a string",
        ),
        (ResponseCreate, {"response": {"temperature": 0}}, "response.temperature", "expected a number above 0, got 0"),
        (ItemCreate, {"item": {"type": "message", "role": "user", "content": [{}]}}, "item.content.0.type", "missing"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_as_in_the_protocol_with_what_it_may_be(
    model: type[BaseModel], request_fields: object, param: str, message: str
) -> None:
    with pytest.raises(BadParameter) as raised:
        fit(request_fields, model)
    assert raised.value.param == param
    assert raised.value.message.startswith(f"{param}: ")
    assert message in raised.value.message


def test_the_field_of_an_image_says_which_parts_there_are() -> None:
    with pytest.raises(BadParameter) as raised:
        fit(_chat([_IMAGE]), ChatRequest)
    assert raised.value.param == "messages.0.content.0.type"
    assert raised.value.message.endswith("expected 'text' or 'input_audio' or 'audio' or 'refusal', got 'image_url'")


def test_an_unknown_and_a_missing_field_have_codes_of_their_own() -> None:
    with pytest.raises(BadParameter) as raised:
        fit({"input": "a", "x" * 3_000: 1}, SpeechRequest)
    assert (raised.value.code, raised.value.param) == ("unknown_parameter", "x" * 80)
    with pytest.raises(BadParameter) as raised:
        fit({}, SpeechRequest, "speech")
    assert (raised.value.code, raised.value.param) == ("missing_required_parameter", "speech.input")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
_PATHS = st.sampled_from(
    ("instructions", "audio", "audio.input", "audio.input.format", "audio.input.turn_detection", "audio.output.voice")
)


@given(_PATHS, _JSON)
def test_no_error_about_a_session_has_a_name_of_python(path: str, value: object) -> None:
    session: object = value
    for name in reversed(path.split(".")):
        session = {name: session}
    error = _error_of({"session": session})
    if error is not None:
        assert error.param.startswith(f"session.{path}")
        assert not any(word in error.message for word in ("In`", "instance of", "constrained", "literal[", "Input"))


def _error_of(event: object) -> BadParameter | None:
    try:
        fit(event, SessionUpdate)
    except BadParameter as error:
        return error
    return None
