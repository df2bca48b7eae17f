"""The response as one object and as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, cast

import pytest

from gateway.api.openai.responses.past_responses import Entry, PastResponses, Spoken
from gateway.api.openai.responses.request import ResponsesRequest
from gateway.api.openai.responses.response_object import ResponseBuilder
from gateway.conversation.output.events import Event, Outcome, TurnDone
from gateway.pipeline.deltas import TextDelta, ToolCallMade
from gateway.store.records import ToolCall
from services.common.errors import ChromaError, InvalidArgument, ResourceExhausted, Unavailable

_DONE = TurnDone("turn-1", Outcome.COMPLETED, input_tokens=9, cached_tokens=4, output_tokens=3)
_HELLO = (TextDelta("turn-1", "Hel", 0), TextDelta("turn-1", "lo", 160))
_CALL = ToolCallMade("turn-1", "c1", "look", '{"at": 1}')


class _Past:
    """Notes what is kept."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, list[Entry], Sequence[Entry] | None, str | None]] = []

    async def keep(
        self, response_id: str, items: Mapping[str, Entry], new: Sequence[Entry] | None, previous: str | None
    ) -> None:
        self.kept.append((response_id, list(items.values()), new, previous))


def _builder(past: _Past | None = None, **fields: Any) -> ResponseBuilder:
    request = ResponsesRequest.model_validate({"input": "hello", **fields})
    return ResponseBuilder(request, cast(PastResponses | None, past), [Spoken("user", "hello")])


async def _turn(*events: Event, error: ChromaError | None = None) -> AsyncGenerator[Event, None]:
    for event in events:
        yield event
    if error is not None:
        raise error


async def _sent(builder: ResponseBuilder, turn: AsyncGenerator[Event, None]) -> list[dict[str, Any]]:
    """The events of a stream, each of which names its type twice."""
    events: list[dict[str, Any]] = []
    async for piece in builder.events(turn):
        name, data = piece.decode().strip().split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


async def test_a_text_is_one_message_and_the_tokens_are_counted() -> None:
    response = await _builder(previous_response_id="resp_0", metadata={"a": "b"}).whole(_turn(*_HELLO, _DONE))
    (message,) = response["output"]
    assert (message["role"], message["status"], message["content"][0]["text"]) == ("assistant", "completed", "Hello")
    assert (response["status"], response["previous_response_id"]) == ("completed", "resp_0")
    assert (response["metadata"], response["store"]) == ({"a": "b"}, False)
    usage = response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (9, 3, 12)
    assert usage["input_tokens_details"]["cached_tokens"] == 4


async def test_a_reply_that_a_limit_cut_is_incomplete() -> None:
    done = TurnDone("turn-1", Outcome.COMPLETED, is_cut=True)
    response = await _builder().whole(_turn(*_HELLO, done))
    assert (response["status"], response["output"][0]["status"]) == ("incomplete", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert "completed_at" not in response


async def test_a_reply_without_a_word_is_an_empty_message() -> None:
    (message,) = (await _builder().whole(_turn(_DONE)))["output"]
    assert message["content"][0]["text"] == ""


async def test_a_call_ends_the_message_before_it_and_is_an_item_of_its_own() -> None:
    past = _Past()
    response = await _builder(past, previous_response_id="resp_0").whole(_turn(*_HELLO, _CALL, _DONE))
    message, call = response["output"]
    assert (message["type"], call["type"], call["arguments"]) == ("message", "function_call", '{"at": 1}')
    entries: list[Entry] = [Spoken("assistant", "Hello"), ToolCall("c1", "look", '{"at": 1}')]
    assert past.kept == [(response["id"], entries, [Spoken("user", "hello")], "resp_0")]
    assert response["store"]


async def test_the_events_of_a_stream_build_the_same_response() -> None:
    events = await _sent(_builder(), _turn(*_HELLO, _CALL, _DONE))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["output_index"] for event in events if "output_index" in event] == [0] * 7 + [1] * 4
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert events[-1]["response"]["output"] == done


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ResourceExhausted("full"), "rate_limit_exceeded"),
        (InvalidArgument("silence"), "invalid_prompt"),
        (Unavailable("away"), "server_error"),
    ],
)
async def test_a_late_error_ends_the_stream_with_its_reason(error: ChromaError, code: str) -> None:
    events = await _sent(_builder(), _turn(*_HELLO, error=error))
    assert events[-1]["type"] == "response.failed"
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", code)
    assert failed["error"]["message"] == error.message


async def test_an_error_before_the_first_event_is_raised() -> None:
    with pytest.raises(Unavailable):
        await _sent(_builder(), _turn(error=Unavailable("away")))
