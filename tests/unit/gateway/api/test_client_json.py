"""JSON and base64 of clients: bounded, and read beside the event loop when long."""

from __future__ import annotations

import asyncio
import base64
import threading
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.api import client_json
from gateway.api.client_json import MAX_VALUES, decode_base64, parse_json, parse_request
from gateway.api.errors import BadParameter
from tests.support.hostile import HOSTILE, RAW_VALUES


class Greeting(BaseModel):
    """A request."""

    text: str


_NO_JSON = {
    "nothing": "",
    "a lone surrogate": '"\\ud83d"',
    "NaN": "NaN",
    "deep nesting": "[" * 10_000,
    "a number of 5,000 digits": "9" * 5_000,
    "no end": '{"a": 1',
    "two values": "1 2",
}


@pytest.mark.parametrize("text", _NO_JSON.values(), ids=_NO_JSON)
async def test_what_is_no_json_is_refused_by_name(text: str) -> None:
    for data in (text, text.encode()):
        with pytest.raises(BadParameter, match="event: expected JSON, got something else") as raised:
            await parse_json(data, "event")
        assert raised.value.code == "invalid_json"


async def test_more_values_than_the_limit_are_refused_before_they_are_parsed() -> None:
    assert len(await parse_json("[" + "1," * (MAX_VALUES - 2) + "1]", "event")) == MAX_VALUES - 1
    for text in ("[" + "1," * MAX_VALUES + "1]", "[" + "{}," * MAX_VALUES + "{}]"):
        with pytest.raises(BadParameter) as raised:
            await parse_json(text, "event")
        assert raised.value.code == "too_large"


@HOSTILE
@given(st.text() | st.binary() | st.sampled_from(RAW_VALUES))
async def test_any_text_is_parsed_or_refused(text: str | bytes) -> None:
    with suppress(BadParameter):
        await parse_json(text, "event")


async def test_a_request_that_does_not_fit_its_model_is_refused() -> None:
    assert (await parse_request(b'{"text": "hi"}', Greeting)).text == "hi"
    with pytest.raises(BadParameter, match="text: expected a string, got 3"):
        await parse_request(b'{"text": 3}', Greeting)


async def test_long_input_is_read_in_a_thread_and_short_input_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    parse = client_json._parse
    monkeypatch.setattr(client_json, "_parse", lambda *args: (threads.append(threading.get_ident()), parse(*args))[1])
    await parse_json('"short"', "event")
    await parse_json('"' + "a" * 100_000 + '"', "event")
    assert threads[0] == threading.get_ident() != threads[1]


async def test_the_loop_runs_while_a_long_input_is_read() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    assert len(await decode_base64("A" * 8_000_000, "audio", "audio")) == 6_000_000
    ticking.cancel()
    assert ticks > 1


_NO_BASE64 = {
    "a letter with an accent": ("é", r"the character '\\xe9'"),
    "half an emoji": ("\ud83d", r"the character '\\ud83d'"),
    "a NUL": ("\0", r"the character '\\x00'"),
    "spaces for plus signs": ("AA A", "each was a `\\+`"),
    "one character": ("A", "cut off: 1 character"),
    "a length that cannot be": ("A" * 100_001, "cut off: 100001 characters"),
    "padding in the middle": ("AA==AA==", "several texts of base64 in a row"),
    "padding alone": ("===", "cut off"),
    "a path": ("/etc/passwd.wav", "no paths and no URLs"),
    "an address": ("https://example.com/sound.wav", "an address; the server reads no paths and no URLs"),
    "a data URL of plain text": ("data:text/plain,hello", "a data URL without `;base64`"),
    "a data URL of no base64": ("data:audio/wav;base64,a.b", "the character '.'"),
}


@pytest.mark.parametrize(("text", "expected"), _NO_BASE64.values(), ids=_NO_BASE64)
async def test_what_is_no_base64_is_refused_with_the_reason(text: str, expected: str) -> None:
    with pytest.raises(BadParameter, match=f"^data: expected a file in base64, got .*{expected}") as raised:
        await decode_base64(text, "data", "a file")
    raised.value.message.encode()


@given(st.binary(max_size=200))
async def test_every_usual_form_of_base64_is_read(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    forms = {
        "plain": text,
        "with line breaks": base64.encodebytes(data).decode(),
        "with CRLF": base64.encodebytes(data).decode().replace("\n", "\r\n"),
        "with a line break at the end": text + "\n",
        "without padding": text.rstrip("="),
        "for URLs": base64.urlsafe_b64encode(data).decode(),
        "for URLs, without padding": base64.urlsafe_b64encode(data).decode().rstrip("="),
        "a data URL": f"data:audio/wav;base64,{text}",
        "a data URL with parameters": f"DATA:audio/webm; codecs=opus;base64,{text}",
        "a data URL with a comma in quotes": f'data:audio/wav;name="a, \\"b\\".wav";base64,{text}',
        "a data URL without a type": f"data:;base64,{text}",
        "a data URL with percent signs": f"data:audio/wav;base64,{quote(text, safe='')}",
    }
    for name, form in forms.items():
        assert await decode_base64(form, "data", "a file") == data, name
