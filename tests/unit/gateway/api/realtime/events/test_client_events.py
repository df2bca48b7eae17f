"""Client events with fields of their own: which are valid, and how an item is shown."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.api.realtime.events.client_events import ItemCreate, ItemIn, ItemTruncate, ResponseCreate, ResponseIn
from gateway.api.realtime.session.update import SessionIn

_TEXT = {"type": "input_text", "text": "hi"}
_AUDIO = {"type": "input_audio", "audio": "AAAA"}


def _item(role: str, *content: dict[str, Any], **fields: Any) -> ItemIn:
    event = {"item": {"type": "message", "role": role, "content": content, **fields}}
    return ItemCreate.model_validate(event).item


def test_the_developer_is_the_system() -> None:
    assert _item("developer", _TEXT).role == "system"


@pytest.mark.parametrize(
    ("role", "content"),
    [("assistant", [_AUDIO]), ("system", [_AUDIO]), ("user", [{"type": "input_audio"}]), ("user", [])],
    ids=["assistant's audio", "system's audio", "audio without data", "no content"],
)
def test_audio_needs_data_and_only_the_user_sends_it(role: str, content: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError):
        _item(role, *content)


def test_an_item_is_shown_without_its_audio() -> None:
    item = _item("user", _TEXT, {**_AUDIO, "transcript": "hello"})
    assert item.content_dicts(beta=False) == [_TEXT, {"type": "input_audio", "transcript": "hello"}]


def test_the_assistants_parts_have_other_names_in_the_beta() -> None:
    item = _item("assistant", {"type": "text", "text": "hi"}, {"type": "audio", "transcript": "ho"})
    assert [part["type"] for part in item.content_dicts(beta=False)] == ["output_text", "output_audio"]
    assert [part["type"] for part in item.content_dicts(beta=True)] == ["text", "audio"]


def test_a_truncation_needs_a_time_of_0_or_more() -> None:
    assert ItemTruncate.model_validate({"item_id": "i", "audio_end_ms": 0}).audio_end_ms == 0
    with pytest.raises(ValidationError):
        ItemTruncate.model_validate({"item_id": "i", "audio_end_ms": -1})


def test_a_null_response_means_the_settings_of_the_session() -> None:
    for event in ({}, {"response": None}):
        assert ResponseCreate.model_validate(event).response == ResponseIn()


def test_the_set_fields_of_a_response_become_fields_of_a_session() -> None:
    session = ResponseIn(instructions="Be brief.", temperature=0.5, metadata={"k": "v"}).as_session()
    assert session.model_fields_set == {"instructions", "temperature"}
    assert session.temperature == 0.5


def test_a_response_has_no_settings_of_the_users_audio() -> None:
    audio = {"input": {"turn_detection": None}, "output": {"voice": "bob"}}
    session = ResponseIn.model_validate({"audio": audio}).as_session().normalized()
    assert session.audio is not None
    assert session.audio.input is not None
    assert session.audio.output is not None
    assert session.audio.input.model_fields_set == set()
    assert session.audio.output.voice == "bob"


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0}, {"temperature": -1}, {"max_output_tokens": 0}, {"max_output_tokens": -5}],
    ids=str,
)
def test_a_response_has_the_bounds_of_a_session(fields: dict[str, Any]) -> None:
    for model in (ResponseIn, SessionIn):
        with pytest.raises(ValidationError):
            model.model_validate(fields)


def test_a_field_of_a_response_without_an_effect_is_ignored() -> None:
    fields = {"reasoning": {"effort": "low"}, "prompt": {"id": "p"}, "x": 1}
    assert ResponseIn.model_validate({**fields, "instructions": "Hi."}) == ResponseIn(instructions="Hi.")
