"""Hostile HTTP clients: whatever they send, the answer is a status below 500 that tells nothing about the server."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.gateway_client import Client, audio_file, speech
from tests.support.hostile import (
    CHAT_REQUEST,
    CHAT_REQUESTS,
    FEW,
    HOSTILE,
    RAW_VALUES,
    SPEECH_REQUESTS,
    assert_tells_nothing,
    hostile_json,
)

_JSON = {"content-type": "application/json"}


@pytest.fixture
async def http(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of the gateway."""
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
        yield http


@pytest.fixture(autouse=True)
def no_bug_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No bug reaches a boundary, which logs it."""
    yield
    bugs = [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert [record.getMessage() for record in bugs] == []  # uvicorn warns of requests that are no HTTP


def _check(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert_tells_nothing(response.text)
        assert len(response.content) < 4_096


@HOSTILE
@example(body='{"messages":[{"role":"user","content":"hi"}],"modalities":["audio"],"top_k":4294967296}')
@example(body='{"messages":[{"role":"user","content":"hi"}],"max_tokens":' + "9" * 400 + "}")
@example(body='{"messages":[{"role":"user","content":[{"type":"audio","audio":"é"}]}]}')
@example(body='{"messages":[{"role":"user","content":"a"}],"prompt_text":"a","prompt_audio":"é"}')
@example(body='{"messages":[{"role":"user","content":"\\ud800"}]}')
@example(body="[" * 100_000)
@example(body='{"messages":[' + "[]," * 1_000_000 + "[]]}")
@given(body=hostile_json(CHAT_REQUESTS))
async def test_any_chat_request_is_answered(http: httpx.AsyncClient, body: str) -> None:
    _check(await http.post("/v1/chat/completions", content=body.encode(), headers=_JSON))


@HOSTILE
@example(body='{"input":"\\ud800"}')
@example(body='{"input":"a","seed":' + str(2**64) + "}")
@given(body=hostile_json(SPEECH_REQUESTS))
async def test_any_speech_request_is_answered(http: httpx.AsyncClient, body: str) -> None:
    _check(await http.post("/v1/audio/speech", content=body.encode(), headers=_JSON))


@HOSTILE
@given(body=st.binary(max_size=200))
async def test_any_bytes_as_a_body_are_answered(http: httpx.AsyncClient, body: bytes) -> None:
    _check(await http.post("/v1/chat/completions", content=body, headers=_JSON))


async def test_a_compressed_body_is_not_inflated(http: httpx.AsyncClient) -> None:
    body = gzip.compress(b"[" * 30_000_000)
    for encoding in ("gzip", "deflate", "br", "zstd", "x" * 500):
        headers = {**_JSON, "content-encoding": encoding}
        response = await http.post("/v1/chat/completions", content=body, headers=headers)
        assert response.status_code == 400


_QUERY_VALUES = (
    "9" * 5_000,
    "-1",
    "0",
    "1e3",
    "٣",
    "²",
    "",
    "%ED%A0%80",
    "%00",
    "%F0%9F%98%80",
    "a" * 3_000,
    "1&limit=2",
)


async def test_any_query_of_a_list_is_answered(http: httpx.AsyncClient) -> None:
    for name in ("limit", "after", "no"):
        for value in _QUERY_VALUES:
            _check(await http.get(f"/v1/voices?{name}={value}"))


_PATHS = ("%00", "%ED%A0%80", "..%2f..%2fetc%2fpasswd", "a" * 5_000, "%F0%9F%98%80", "ada%0aX", "Ada!", ";", "%25s")


async def test_any_path_is_answered(http: httpx.AsyncClient) -> None:
    for folder in ("/", "/v1/", "/v1/voices/", "/v1/models/", "/v1/sessions/"):
        for path in _PATHS:
            for method in ("GET", "DELETE", "PUT"):
                _check(await http.request(method, folder + path))


_HEAD = b"POST /v1/audio/speech HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
_RAW_REQUESTS = (
    _HEAD + b"content-length: 100\r\n\r\n{}",
    _HEAD + b"content-length: 1\r\n\r\n{}{}{}",
    _HEAD + b"content-length: 99999999999999999999\r\n\r\n{}",
    _HEAD + b"content-length: -1\r\n\r\n{}",
    _HEAD + b"content-length: \xc2\xb2\r\n\r\n{}",
    _HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    _HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
    _HEAD + b"transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n{}",
    _HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    _HEAD + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    b"GET /v1/realtime HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    b"\0" * 1_000,
    b"",
)


async def test_any_bytes_of_a_connection_are_answered_or_cut_off(client: Client, http: httpx.AsyncClient) -> None:
    host, _, port = client.http_address.partition(":")
    for data in _RAW_REQUESTS:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        writer.write_eof()
        with suppress(ConnectionError):
            async with asyncio.timeout(60):
                answer = await reader.read()
            assert not answer or b" 500 " not in answer.splitlines()[0], answer
        writer.close()
    assert (await http.get("/healthz")).status_code == 200


# Forms.

_RECORDING = audio_file(speech(1.2, rate_hz=8_000), rate_hz=8_000)
_FIELDS = {"transcript": "hello", "consent": "yes", "name": "n", "voice_id": "v"}


@FEW
@given(
    fields=st.dictionaries(
        st.sampled_from((*_FIELDS, "file", "extra", "", "é", "\0")),
        st.sampled_from((*(raw for raw in RAW_VALUES if len(raw) < 1_000), "\0", "\r\n--b--\r\n", "é", "x")),
    ),
    file=st.sampled_from((_RECORDING, b"", b"RIFF", _RECORDING[:50], b"\0" * 100)) | st.binary(max_size=100),
    file_name=st.sampled_from(("a.wav", "", "../../a", "é\0", "a" * 300)),
)
async def test_any_form_is_answered(
    http: httpx.AsyncClient, fields: dict[str, str], file: bytes, file_name: str
) -> None:
    form = {**_FIELDS, **fields}
    response = await http.post("/v1/voices", data=form, files={"file": (file_name, file)})
    _check(response)
    await http.delete(f"/v1/voices/{quote(form['voice_id'], safe='')}")


def _part(name: bytes, value: bytes) -> bytes:
    return b'--b\r\ncontent-disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"


_TEXTS = _part(b"transcript", b"+2D0-") + _part(b"consent", b"\\ud800")
_FILE = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + _RECORDING + b"\r\n--b--\r\n"

_FORMS: dict[str, tuple[str, bytes]] = {
    "no boundary": ("multipart/form-data", b"x"),
    "a boundary of 5,000 bytes": ("multipart/form-data; boundary=" + "b" * 5_000, b"x"),
    "a charset with surrogates": ("multipart/form-data; boundary=b; charset=utf-7", _TEXTS + _FILE),
    "a charset of escapes": ("multipart/form-data; boundary=b; charset=raw_unicode_escape", _TEXTS + _FILE),
    "a charset that raises": ("multipart/form-data; boundary=b; charset=idna", _part(b"name", b"\xff.." * 40) + _FILE),
    "no end": ("multipart/form-data; boundary=b", _TEXTS),
    "no name": ("multipart/form-data; boundary=b", b"--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
    "no headers": ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
    "many parts": ("multipart/form-data; boundary=b", _part(b"name", b"x") * 1_000 + _FILE),
    "many files": ("multipart/form-data; boundary=b", _FILE[: -len(b"--b--\r\n")] * 3 + _FILE),
    "a header of 1 MB": ("multipart/form-data; boundary=b", b"--b\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n" + _FILE),
    "a text of 2 MB": ("multipart/form-data; boundary=b", _part(b"name", b"x" * 2_000_000) + _FILE),
    "a name of 1 MB": ("multipart/form-data; boundary=b", _part(b"n" * 1_000_000, b"x") + _FILE),
    "the file as text": ("multipart/form-data; boundary=b", _TEXTS + _part(b"file", _RECORDING) + b"--b--\r\n"),
    "text that is not UTF-8": ("multipart/form-data; boundary=b", _part(b"transcript", b"\xff\xfe") + _FILE),
}


async def test_a_form_out_of_shape_is_refused(http: httpx.AsyncClient) -> None:
    for name, (content_type, body) in _FORMS.items():
        response = await http.post("/v1/voices", content=body, headers={"content-type": content_type})
        _check(response)
        assert response.status_code >= 400, name


async def test_a_request_after_all_that_is_answered(http: httpx.AsyncClient) -> None:
    request = {**CHAT_REQUEST, "modalities": ["text"]}
    assert (await http.post("/v1/chat/completions", json=request)).status_code == 200
