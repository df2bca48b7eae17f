"""Hostile Realtime clients: whatever they send, and in whatever order, the connection answers and goes on."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, new_voice
from tests.support.hostile import HOSTILE, REALTIME_EVENTS, assert_tells_nothing, hostile_json

_NUMBERS = itertools.count()


def _connect(client: Client, query: str = "", **options: Any) -> connect:
    return connect(f"ws://{client.http_address}/v1/realtime{query}", max_size=None, **options)


async def _answers(socket: ClientConnection) -> list[dict[str, Any]]:
    """The events up to the answer to an event that is sent here. The connection must go on."""
    name = f"mark-{next(_NUMBERS)}"
    await socket.send(json.dumps({"type": "mark", "event_id": name}))
    answers: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not answers or answers[-1].get("error", {}).get("event_id") != name:
            text = await socket.recv()
            assert_tells_nothing(str(text))
            answers.append(json.loads(text))
    return answers


def _assert_nothing_was_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Check that no bug reached a boundary, which logs it."""
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@HOSTILE
@example(messages=['{"type":"input_audio_buffer.append","audio":"é"}'])
@example(messages=['{"type":"nope","event_id":"\\ud83d"}'])
@example(messages=['{"type":"session.update","session":{"type":"realtime","instructions":"Be brief \\ud83d"}}'])
@example(messages=['{"type":"session.update","session":{"type":"realtime","max_output_tokens":' + "9" * 400 + "}}"])
@example(messages=['{"type":"session.update","session":{"max_response_output_tokens":' + "9" * 5_000 + "}}"])
@example(messages=["[" * 100_000])
@example(messages=[b"binary", b"", "", "null", "[]", '{"type": 3}'])
@given(messages=st.lists(hostile_json(REALTIME_EVENTS), min_size=1, max_size=8))
async def test_any_events_in_any_order_are_answered_and_the_connection_goes_on(
    client: Client, caplog: pytest.LogCaptureFixture, messages: list[str | bytes]
) -> None:
    async with _connect(client) as socket:
        for message in messages:
            await socket.send(message)
        await _answers(socket)
    _assert_nothing_was_logged(caplog)


async def test_no_call_is_left_by_hostile_clients(client: Client, fakes: Fakes) -> None:
    for event in REALTIME_EVENTS:
        async with _connect(client) as socket:
            await socket.send(json.dumps(event))
    async with asyncio.timeout(60):
        await fakes.all_freed()


_QUERIES = (
    "?session_id=" + "%F0%9F%98%80" * 40,
    "?session_id=%ED%A0%80",
    "?session_id=%00",
    "?session_id=" + "a" * 5_000,
    "?model=" + "m" * 5_000,
    "?model=%ED%A0%80",
    "?model=%00&intent=transcription",
)


async def test_any_query_is_answered_by_events_or_a_refused_upgrade(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    statuses: list[int] = []
    for query in _QUERIES:
        try:
            async with _connect(client, query) as socket:
                await socket.recv()
                await _answers(socket)
        except InvalidStatus as refused:
            assert_tells_nothing(refused.response.body.decode())
            statuses.append(refused.response.status_code)
    assert len(statuses) > len(_QUERIES) // 2
    assert set(statuses) <= {400, 404}
    _assert_nothing_was_logged(caplog)


async def test_a_websocket_at_another_path_is_refused(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("/", "/v1/realtime/", "/v1/voices", "/%00", "/" + "a" * 3_000):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{client.http_address}{path}")
        assert refused.value.response.status_code in (403, 404)
    assert not [record for record in caplog.records if record.exc_info]  # uvicorn logs a line for each refusal


async def test_a_conversation_refuses_items_beyond_its_bounds_and_goes_on(start_gateway: StartGateway) -> None:
    async with start_gateway(realtime_items=3, realtime_item_chars=1_000, max_input_chars=600) as client:
        await client.voices.CreateVoice(new_voice("ada"))

        def item(chars: int) -> str:
            content = [{"type": "input_text", "text": "a" * chars}]
            item = {"type": "message", "role": "user", "content": content}
            return json.dumps({"type": "conversation.item.create", "event_id": f"item-{chars}", "item": item})

        async with _connect(client) as socket:
            codes: list[str] = []
            for chars in (601, 500, 501, 1, 2, 3):
                await socket.send(item(chars))
                errors = [event["error"] for event in await _answers(socket) if event["type"] == "error"]
                codes.append("" if len(errors) == 1 else errors[0]["code"])
    assert codes == ["too_large", "", "too_large", "", "", "too_many_items"]


async def test_a_large_event_of_many_values_is_refused_and_a_long_text_is_read(start_gateway: StartGateway) -> None:
    async with start_gateway(realtime_message_bytes=16_000_000) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with _connect(client) as socket:
            await socket.send('{"type":"x","pad":[' + "[]," * 5_000_000 + "[]]}")
            refused = (await _answers(socket))[1:-1]
            assert [event["error"]["code"] for event in refused] == ["too_large"]
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 4_000_000}))
            answers = await _answers(socket)
    assert [event["type"] for event in answers] == ["error"]  # only the mark's


async def test_events_are_handled_in_the_order_in_which_they_come(client: Client) -> None:
    async with _connect(client) as socket:
        await socket.recv()
        for number in range(20):
            pad = "x" * (60_000 if number % 2 else 0)
            await socket.send(json.dumps({"type": "nope", "event_id": str(number), "pad": pad}))
        received = [json.loads(await socket.recv())["error"]["event_id"] for _ in range(20)]
    assert received == [str(number) for number in range(20)]
