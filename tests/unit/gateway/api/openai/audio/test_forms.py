"""Multipart forms: the file and the texts that are read, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.requests import Request

from gateway.api.errors import BadParameter, TooLarge
from gateway.api.openai.audio.forms import read_form
from gateway.audio.read import MAX_FILE_BYTES


async def _read(**sent: Any) -> tuple[bytes, dict[str, Any]]:
    request = httpx.Request("POST", "http://localhost/", **sent)
    body = request.read()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(name.lower(), value) for name, value in request.headers.raw]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "app": None}
    return await read_form(Request(scope, receive), file_field="file", fields=("model", "name"), lists=("include",))


async def test_texts_come_by_their_names_and_lists_with_or_without_brackets() -> None:
    data = {"model": "m", "include[]": ["a", "b"], "include": "c"}
    assert await _read(data=data, files={"file": ("a.wav", b"RIFF")}) == (
        b"RIFF",
        {"model": "m", "include": ["a", "b", "c"]},
    )


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"json": {}}, "body"),
        ({"files": {"file": (None, "no file")}}, "file"),
        ({"data": {"other": "x"}, "files": {"file": b"RIFF"}}, "other"),
        ({"data": {"name[]": "x"}, "files": {"file": b"RIFF"}}, "name[]"),
        ({"files": [("file", b"RIFF"), ("model", b"RIFF")]}, "body"),
        ({"files": {"model": b"RIFF"}}, "model"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a; charset=utf-7"}}, "body"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "body"),
    ],
    ids=str,
)
async def test_another_form_is_refused(sent: dict[str, Any], param: str) -> None:
    with pytest.raises(BadParameter) as refused:
        await _read(**sent)
    assert refused.value.param == param


async def test_a_file_above_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge):
        await _read(files={"file": bytes(MAX_FILE_BYTES + 1)})
