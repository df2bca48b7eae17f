"""/v1/chat/completions: the requests that are refused before a turn begins."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

_USER = {"role": "user", "content": "hi"}
_CALL = {
    "role": "assistant",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
}
_NO_RECORDING = {"type": "input_audio", "input_audio": {"data": "AAAA"}}


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"messages": [_USER, _CALL]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, 400, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [_NO_RECORDING]}]}, 400, "messages.0.content.0"),
        ({"messages": [{"role": "assistant", "content": [_NO_RECORDING]}, _USER]}, 400, "messages.0.content"),
        ({"messages": [{"role": "assistant", "audio": {"id": "audio_unknown"}}, _USER]}, 404, None),
        ({"prompt_text": "hello"}, 400, "prompt_text"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "zoe"}}, 404, None),
        ({"top_p": 2}, 400, "top_p"),
    ],
    ids=[
        "a call without its result is last",
        "no content",
        "no recording",
        "audio of the assistant",
        "unknown reply",
        "a text without its recording",
        "unknown voice",
        "top_p",
    ],
)
async def test_an_error_names_the_field(
    http: httpx.AsyncClient, fields: dict[str, Any], status: int, param: str | None
) -> None:
    response = await http.post("/v1/chat/completions", json={"messages": [_USER], **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
