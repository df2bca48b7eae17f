"""What a request of the Responses API may say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.api.errors import BadParameter
from gateway.api.openai.responses.request import (
    CallItem,
    CallOutputItem,
    ItemReference,
    MessageItem,
    ResponsesRequest,
)


def _request(**fields: Any) -> ResponsesRequest:
    return ResponsesRequest.model_validate({"input": "hello", **fields})


def test_a_text_is_a_message_of_the_user() -> None:
    assert _request().items == [MessageItem(role="user", content="hello")]


def test_an_item_is_known_by_its_type_or_by_its_fields() -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        {"id": "msg_1"},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "20"}] * 2},
    ]
    message, reference, call, output = _request(input=items).items
    assert isinstance(message, MessageItem)
    assert isinstance(reference, ItemReference)
    assert isinstance(call, CallItem)
    assert isinstance(output, CallOutputItem)
    assert (message.role, reference.id, call.name, output.text) == ("developer", "msg_1", "look", "2020")


@pytest.mark.parametrize("item", [{"type": "reasoning"}, {"role": "critic", "content": "no"}, "hello", 7])
def test_an_item_of_another_kind_is_refused(item: object) -> None:
    with pytest.raises(ValidationError):
        _request(input=[item])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"input": [{"role": "user", "content": "x"}] * 1_001}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}] * 501}] * 2}, "input"),
    ],
)
def test_what_a_client_would_miss_in_the_answer_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadParameter) as refused:
        _request(**fields).check()
    assert refused.value.param == param


def test_what_asks_for_nothing_is_taken() -> None:
    request = _request(
        top_logprobs=0, include=[], background=False, text={"format": {"type": "text"}, "verbosity": "medium"},
        truncation="disabled", reasoning={}, service_tier="auto",
    )  # fmt: skip
    request.check()
    assert request.ignored == []


def test_fields_without_effect_are_named_as_the_client_wrote_them() -> None:
    request = _request(temperature=0.5, top_p=0.5, truncation="auto", text={"verbosity": "low"}, service_tier="flex")
    request.check()
    assert request.ignored == ["temperature", "top_p", "truncation", "service_tier", "text.verbosity"]


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        _request(colour="red")
