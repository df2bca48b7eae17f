"""/v1/responses, with OpenAI's own Python client: what it answers fits the models of the SDK."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from services.common.errors import ResourceExhausted, Unavailable
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, audio_file, speech

SAID = "".join(REPLY)
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@pytest.fixture
async def http(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of the gateway."""
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}/v1", timeout=60) as http:
        yield http


def history(fakes: Fakes) -> list[str]:
    """The texts of the history that the reasoner got last."""
    return [part.text for message in fakes.reasoner.script.opened[-1].history for part in message.parts]


async def test_a_text_is_answered_with_a_text(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    answer = await sdk.responses.create(model="gpt-5", input="question", instructions="Be brief.", metadata={"a": "b"})
    Response.model_validate(answer.to_dict(), strict=True)
    assert (answer.output_text, answer.status, answer.model) == (SAID, "completed", "gpt-5")
    assert (answer.instructions, answer.metadata) == ("Be brief.", {"a": "b"})
    assert answer.to_dict()["store"] is True
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (30, len(REPLY) + 1)
    assert answer.usage.input_tokens_details.cached_tokens == 10
    opened = fakes.reasoner.script.opened[-1]
    assert (opened.session_id, opened.system_prompt, fakes.reasoner.script.heard) == ("", "Be brief.", ["question"])
    assert len(fakes.speech_gen.script.opened) == 1, "of the voice's enrolment: nothing is spoken"


async def test_the_events_of_a_stream_are_those_of_the_specification(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    fakes.reasoner.script.hold_at = 3
    stream = await sdk.responses.create(model="m", input="question", stream=True)
    events: list[Any] = []
    async for event in stream:
        EVENTS.validate_python(event.to_dict(), strict=True)
        events.append(event)
        if event.type == "response.output_text.delta" and not fakes.reasoner.script.go.is_set():
            await fakes.reasoner.script.held.wait()  # the text streams while it is made
            fakes.reasoner.script.go.set()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    types = [event.type.removeprefix("response.") for event in events]
    assert types == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * len(REPLY),
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event.delta for event in events[4:-4]) == events[-4].text == events[-1].response.output_text == SAID
    assert events[-1].response.usage.output_tokens == len(REPLY) + 1
    assert {event.item_id for event in events[3:-2]} == {events[2].item.id, events[-2].item.id}


async def test_the_streaming_helper_of_the_sdk_accumulates_the_response(sdk: AsyncOpenAI) -> None:
    async with sdk.responses.stream(model="m", input="question") as stream:
        async for _ in stream:
            pass
        assert (await stream.get_final_response()).output_text == SAID


async def test_the_items_of_a_conversation_enter_in_order(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    first = await sdk.responses.create(model="m", input="zero")
    items: Any = [
        {"role": "developer", "content": "Speak like a guide."},
        {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {"role": "assistant", "content": "two", "phase": "final_answer"},
        {"type": "message", "role": "user", "content": "three"},
        *[item.to_dict() for item in first.output],
        {"role": "user", "content": "four"},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"role": "user", "content": "five"},
    ]
    await sdk.responses.create(model="m", input=items, instructions="You are Chroma.")
    assert history(fakes) == ["one", "two", "three", SAID, "four", SAID]
    assert fakes.reasoner.script.heard == ["five"]
    assert fakes.reasoner.script.opened[-1].system_prompt == "You are Chroma.\n\nSpeak like a guide.\n\nBe brief."


@pytest.mark.parametrize("items", [[], [{"role": "system", "content": "Greet the visitor."}]], ids=str)
async def test_the_model_speaks_first_from_its_instructions(sdk: AsyncOpenAI, fakes: Fakes, items: Any) -> None:
    answer = await sdk.responses.create(model="m", input=items, instructions="You are a guide.")
    assert answer.output_text == SAID
    assert fakes.reasoner.script.opened[-1].system_prompt.startswith("You are a guide.")
    assert fakes.reasoner.script.heard == []


async def test_a_conversation_that_ends_with_the_assistant_gets_another_reply(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    items: Any = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    assert (await sdk.responses.create(model="m", input=items)).output_text == SAID
    assert history(fakes) == ["one", "two"]
    assert fakes.reasoner.script.heard == []


@pytest.mark.parametrize(
    "field", ["context_management", "moderation", "image", "access_programs", "background_options"]
)
async def test_fields_of_newer_clients_are_said_not_to_be_offered(sdk: AsyncOpenAI, field: str) -> None:
    with pytest.raises(openai.BadRequestError, match=f"{field}: this server does not offer it; ") as refused:
        await sdk.responses.create(model="m", input="one", extra_body={field: {"a": 1}})
    assert (refused.value.param, refused.value.code) == (field, "unsupported_value")


async def test_another_kind_of_tool_is_refused_by_the_field_that_names_it(sdk: AsyncOpenAI) -> None:
    tools: Any = [{"type": "web_search"}]
    with pytest.raises(openai.BadRequestError, match="expected 'function', got 'web_search'") as refused:
        await sdk.responses.create(model="m", input="one", tools=tools)
    assert refused.value.param == "tools.0.type"


async def test_speech_in_the_input_is_heard(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    recording = base64.b64encode(audio_file(speech(1, rate_hz=16_000), 16_000)).decode()
    part = {"type": "input_audio", "input_audio": {"data": recording, "format": "wav"}}
    items: Any = [{"role": "user", "content": [part]}]
    answer = await sdk.responses.create(model="m", input=items)
    assert sum(len(piece) for piece in fakes.reasoner.script.heard) == 16_000 * 4
    with pytest.raises(openai.NotFoundError):  # speech is not kept
        await sdk.responses.create(model="m", input="more", previous_response_id=answer.id)


async def test_a_response_follows_another_one_and_several_may_branch_off(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    first = await sdk.responses.create(model="m", input="one", instructions="Only for the first.")
    second = await sdk.responses.create(model="m", input="two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert history(fakes) == ["one", SAID]
    assert fakes.reasoner.script.opened[-1].system_prompt == ""
    await sdk.responses.create(model="m", input="three", previous_response_id=second.id)
    assert history(fakes) == ["one", SAID, "two", SAID]
    await sdk.responses.create(model="m", input="another two", previous_response_id=first.id)
    assert history(fakes) == ["one", SAID]


WEATHER: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False}


@pytest.fixture
async def tool_user(fakes: Fakes, start_gateway: StartGateway) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client of a gateway whose model knows tools, and calls one."""
    fakes.reasoner.script.renders_tools = True
    await fakes.reasoner.restart()
    fakes.reasoner.script.tool_calls = (("get_weather", '{"city": "Rome"}'),)
    async with (
        start_gateway() as client,
        AsyncOpenAI(api_key="none", base_url=f"http://{client.http_address}/v1", max_retries=0) as sdk,
    ):
        yield sdk


@pytest.mark.parametrize("said", [(), ("Let ", "me look.")])
async def test_a_call_of_a_tool_is_an_item_and_its_result_goes_back(
    tool_user: AsyncOpenAI, fakes: Fakes, said: tuple[str, ...]
) -> None:
    fakes.reasoner.script.reply = said
    stream = await tool_user.responses.create(model="m", input="Weather?", tools=[WEATHER], stream=True)
    events: list[Any] = [event async for event in stream]
    for event in events:
        EVENTS.validate_python(event.to_dict(), strict=True)
    first = events[-1].response
    Response.model_validate(first.to_dict(), strict=True)
    assert [item.type for item in first.output] == (["message"] if said else []) + ["function_call"]
    call = first.output[-1]
    assert (call.name, json.loads(call.arguments), call.status) == ("get_weather", {"city": "Rome"}, "completed")
    assert first.output_text == "".join(said)
    arguments = [event for event in events if event.type.startswith("response.function_call_arguments")]
    assert {event.item_id for event in arguments} == {call.id}
    assert {event.output_index for event in arguments} == {len(first.output) - 1}

    fakes.reasoner.script.reply, fakes.reasoner.script.tool_calls = ("Warm.",), ()
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "20 degrees"}
    asked: Any = {"role": "user", "content": "Weather?"}
    items = [item.to_dict() for item in first.output]
    references = [{"type": "item_reference", "id": item.id} for item in first.output]
    for before in ([asked, *items], [asked, *references]):
        answer = await tool_user.responses.create(model="m", input=[*before, result], tools=[WEATHER])  # type: ignore[list-item]
        assert answer.output_text == "Warm."
        _check_history(fakes)
    answer = await tool_user.responses.create(model="m", input=[result], tools=[WEATHER], previous_response_id=first.id)
    assert answer.output_text == "Warm."
    _check_history(fakes)


def _check_history(fakes: Fakes) -> None:
    told = str(fakes.reasoner.script.opened[-1].history)
    assert "Weather?" in told
    assert "get_weather" in told
    assert "20 degrees" in told


async def test_tools_are_refused_where_the_model_knows_none_and_a_result_without_its_call_always(
    sdk: AsyncOpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError, match="knows no tools"):
        await sdk.responses.create(model="m", input="Weather?", tools=[WEATHER])
    orphan: Any = [{"type": "function_call_output", "call_id": "call_0", "output": "20 degrees"}]
    with pytest.raises(openai.BadRequestError, match="call before it"):
        await sdk.responses.create(model="m", input=orphan)
    with pytest.raises(openai.BadRequestError):
        await sdk.responses.create(model="m", input="News?", tools=[{"type": "web_search"}])


async def test_nothing_is_kept_of_a_response_that_is_not_to_be_stored(
    sdk: AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    answer = await sdk.responses.create(model="m", input="one", store=False)
    assert answer.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.create(model="m", input="two", previous_response_id=answer.id)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.create(model="m", input=[{"type": "item_reference", "id": str(answer.output[0].id)}])
    assert (await http.get(f"/responses/{answer.id}")).status_code == 404


async def test_a_text_above_its_limit_is_incomplete(sdk: AsyncOpenAI) -> None:
    answer = await sdk.responses.create(model="m", input="question", max_output_tokens=3)
    assert (answer.status, answer.output_text) == ("incomplete", "Hello, dear ")
    assert answer.incomplete_details is not None
    assert (answer.incomplete_details.reason, answer.max_output_tokens) == ("max_output_tokens", 3)
    stream = await sdk.responses.create(model="m", input="question", max_output_tokens=3, stream=True)
    last: Any = [event async for event in stream][-1]
    EVENTS.validate_python(last.to_dict(), strict=True)
    assert (last.type, last.response.status) == ("response.incomplete", "incomplete")


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"conversation": "conv_1"}, 400, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, 400, "prompt"),
        ({"background": True}, 400, "background"),
        ({"text": {"format": {"type": "json_object"}}}, 400, "text.format"),
        ({"top_logprobs": 2}, 400, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, 400, "include"),
        ({"input": [{"role": "user", "content": []}]}, 400, "input.0.content"),
        ({"input": [{"role": "user", "content": "x"}] * 1_001}, 400, "input"),
        ({"moderation": {"model": "m"}}, 400, "moderation"),
        ({"previous_response_id": "resp_0"}, 404, None),
        ({"previous_response_id": "audio_0"}, 404, None),
        ({"input": [{"id": "msg_0"}]}, 404, None),
        ({"input": [{"id": "resp_0"}]}, 404, None),
    ],
    ids=str,
)
async def test_what_a_client_would_miss_is_refused(
    http: httpx.AsyncClient, fakes: Fakes, fields: dict[str, Any], status: int, param: str | None
) -> None:
    answer = await http.post("/responses", json={"input": "question", **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert not fakes.reasoner.script.opened


async def test_an_image_is_refused_by_its_place(http: httpx.AsyncClient) -> None:
    items = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}]
    answer = await http.post("/responses", json={"input": items})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("input.0")
    assert "input_text" in answer.json()["error"]["message"]


async def test_what_has_no_effect_is_accepted_and_named(sdk: AsyncOpenAI) -> None:
    answer = await sdk.responses.with_raw_response.create(
        model="m",
        input="question",
        temperature=0.5,
        truncation="auto",
        reasoning={"effort": "low"},
        text={"format": {"type": "text"}, "verbosity": "low"},
        include=["reasoning.encrypted_content"],
        service_tier="auto",
        parallel_tool_calls=True,
        tools=[],
        user="someone",
    )
    assert answer.headers["x-ignored-parameters"] == "temperature, truncation, reasoning, text.verbosity"


async def test_errors_before_the_stream_are_a_status_and_later_ones_an_event(
    sdk: AsyncOpenAI, http: httpx.AsyncClient, fakes: Fakes
) -> None:
    fakes.reasoner.script.failures = [ResourceExhausted("no slot", retry_after_s=2.0)]
    with pytest.raises(openai.RateLimitError):
        await sdk.responses.create(model="m", input="question")
    fakes.reasoner.script.breaks = [2, 2]
    answer = await http.post("/responses", json={"input": "question", "stream": True})
    assert answer.status_code == 200
    last = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))
    event = EVENTS.validate_python(last)
    assert (event.type, event.response.status) == ("response.failed", "failed")
    assert event.response.error.code == "server_error"
    assert Unavailable.status not in last["response"]["error"]["message"]
    await fakes.all_freed()
