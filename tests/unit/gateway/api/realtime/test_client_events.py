"""Client events with fields of their own: which are valid, and how an item is shown."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.api.errors import BadParameter
from gateway.api.realtime.client_events import ItemCreate, ItemIn, ItemTruncate, ResponseCreate, ResponseIn

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


def test_a_response_has_no_input_settings_and_its_temperature_is_above_0() -> None:
    with pytest.raises(BadParameter) as raised:
        ResponseIn.model_validate({"audio": {"input": {}}}).as_session()
    assert raised.value.param == "response.audio.input"
    with pytest.raises(ValidationError):
        ResponseIn.model_validate({"temperature": 0})
