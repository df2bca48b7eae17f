"""JSON and base64 that clients send. Short input is read at once, long input in a thread, beside the event loop.

The parser refuses what a client of JSON cannot mean: text that is not Unicode (a lone surrogate), NaN, nesting of more
than 200 levels, integers of more than 4,300 digits.
"""

from __future__ import annotations

import asyncio
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel
from pydantic_core import from_json

from gateway.api.errors import BadParameter
from gateway.api.field_errors import fit

ResultT = TypeVar("ResultT")
ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_VALUES = 50_000
"""Most values in one JSON text. While they are parsed no other Python code runs; the length of the strings hardly
matters. Text counts with its commas and brackets, so the limit is far above what any request needs."""

_LONG = 32 * 1024
"""Input of this many characters or bytes is read in a thread."""

_LENIENT = str.maketrans("-_", "+/", " \t\r\n")
"""Makes the common alphabet of the URL alphabet, and removes white space."""

_DATA_URL = re.compile(r'data:(?:[^,"]|"(?:[^"\\]|\\.){0,200}"){0,200},', re.IGNORECASE)
"""The head of a data URL. A parameter of its media type may be quoted, with commas in it."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE)
_LOST_PLUS = re.compile(r"[^\s] [^\s]")
_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


def to_json(value: Any) -> str:
    """The JSON text of a value, as clients get it: short, and with all letters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def parse_json(text: str | bytes, param: str) -> Any:
    """Parse JSON. Raises BadParameter for anything else and for too many values; `param` names the text in errors."""
    return await _beside_the_loop(text, lambda: _parse(text, param))


async def parse_request(text: bytes, model: type[ModelT]) -> ModelT:
    """Parse the JSON body of a request. Raises BadParameter if it is not JSON or does not fit `model`."""
    return await _beside_the_loop(text, lambda: fit(_parse(text, "body"), model))


async def decode_base64(text: str, param: str, what: str) -> bytes:
    """Return the bytes that `text` holds in base64 (RFC 4648).

    Line breaks (RFC 2045), the alphabet for URLs, missing padding and a data URL (RFC 2397) are read too. Raises
    BadParameter for anything else; `param` names the field in errors, and `what` its content.
    """
    return await _beside_the_loop(text, lambda: _decode(text, param, what))


async def _beside_the_loop(text: str | bytes, read: Callable[[], ResultT]) -> ResultT:
    return read() if len(text) < _LONG else await asyncio.to_thread(read)


def _parse(text: str | bytes, param: str) -> Any:
    values = sum(text.count(mark) if isinstance(text, str) else text.count(mark.encode()) for mark in "[{,")
    if values > MAX_VALUES:
        raise BadParameter(param, f"{param}: expected JSON of at most {MAX_VALUES} values, got more", "too_large")
    try:
        return from_json(text, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        message = f"{param}: expected JSON, got something else: {error}"
        raise BadParameter(param, message, "invalid_json") from None


def _decode(text: str, param: str, what: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error, and a character that is not ASCII
        pass
    try:
        return _decode_leniently(text)
    except ValueError as error:
        raise BadParameter(param, f"{param}: expected {what} in base64, got {error}") from None


def _decode_leniently(text: str) -> bytes:
    """Decode base64 of any usual form. Raises ValueError, which says what the text is instead, for people."""
    if _ADDRESS.match(text):
        raise ValueError("an address; the server reads no paths and no URLs")
    if head := _DATA_URL.match(text):
        if not head[0][:-1].rstrip().lower().endswith(";base64"):
            raise ValueError("a data URL without `;base64`")
        text = unquote(text[head.end() :])
    if _LOST_PLUS.search(text):
        raise ValueError("a text with spaces: each was a `+`, which a form or a query decodes to a space")
    text = text.translate(_LENIENT)
    digits = text.rstrip("=")
    if wrong := _NO_BASE64.search(digits):
        if wrong[0] == "=":
            raise ValueError("several texts of base64 in a row: padding in the middle")
        raise ValueError(
            f"a text with the character {wrong[0]!a}, which base64 does not have; the server reads no paths and no URLs"
        )
    if len(digits) % 4 == 1 or len(text) - len(digits) > 2:
        raise ValueError(f"a text that is cut off: {len(digits)} characters cannot be base64")
    return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
