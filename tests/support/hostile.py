"""Hostile requests for the public APIs: JSON with impossible values, and messages in any order."""

from __future__ import annotations

import base64
import copy
import json
import re
import tempfile
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.support.paths import ROOT

HOSTILE = settings(
    derandomize=True,
    max_examples=200,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.large_base_example],
)
"""Settings of the property tests: the same examples in each run, no time limit for one of them."""

FEW = settings(HOSTILE, max_examples=40)
"""The same for tests whose examples write durably to the store."""

RAW_VALUES = (
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "0.5",
    "1e308",
    "-1e308",
    "1e-50",
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "4294967295",
    "4294967296",
    "2147483648",
    "9223372036854775808",
    "18446744073709551616",
    str(2**70),
    "9" * 400,
    "-" + "9" * 400,
    "9" * 5_000,
    '""',
    '"a"',
    '"0"',
    '"inf"',
    '"Infinity"',
    '"ada"',
    '"alloy"',
    '"\\u0000"',
    '"a\\u0000b"',
    '"\\ud83d"',
    '"\\ude00 x"',
    '"\\ud83d\\ude00"',
    '"é"',
    '"\U0001f600"',
    '"<im_end>"',
    '"../../etc/passwd"',
    json.dumps("x" * 70),
    json.dumps("😀" * 300),
    json.dumps("a" * 30_000),
    "[]",
    "[[]]",
    "{}",
    '{"a": {"a": {}}}',
    '{"id": "ada"}',
    '{"type": "text", "text": "a"}',
    '["text", "audio"]',
    '["text", "text", "text"]',
    "[" * 150 + "]" * 150,
    "[" * 3_000 + "]" * 3_000,
    '{"a":' * 250 + "1" + "}" * 250,
    '{"a": 1, "a": 2}',
    "[" + "1," * 300 + "1]",
    "nothing",
    '"unterminated',
)
"""Values that replace a part of a valid request, as JSON text. Some are not JSON."""

_AUDIO = base64.b64encode(b"\0\1" * 480).decode()
_ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}

REALTIME_EVENTS: tuple[dict[str, Any], ...] = (
    {
        "type": "session.update",
        "event_id": "e1",
        "session": {
            "type": "realtime",
            "instructions": "Be brief.",
            "output_modalities": ["audio"],
            "max_output_tokens": 100,
            "temperature": 0.8,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {"model": "whisper-1"},
                    "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500},
                },
                "output": {"voice": "ada", "format": {"type": "audio/pcm"}, "speed": 1.0},
            },
        },
    },
    {
        "type": "session.update",
        "session": {
            "modalities": ["text"],
            "voice": "ada",
            "input_audio_format": "g711_ulaw",
            "turn_detection": None,
            "max_response_output_tokens": "inf",
        },
    },
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
    {"type": "input_audio_buffer.append", "audio": _AUDIO},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "conversation.item.create", "item": _ITEM},
    {"type": "conversation.item.create", "item": {**_ITEM, "id": "item_1"}, "previous_item_id": "root"},
    {"type": "conversation.item.create", "item": {**_ITEM, "role": "system", "id": "item_2"}},
    {
        "type": "conversation.item.create",
        "item": {**_ITEM, "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
    },
    {"type": "conversation.item.create", "item": {**_ITEM, "content": [{"type": "input_audio", "audio": _AUDIO}]}},
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 100},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "conversation.item.delete", "item_id": "item_2"},
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {"instructions": "Say hi.", "output_modalities": ["text"], "metadata": {"a": "b"}, "voice": "ada"},
    },
    {"type": "response.create", "response": {"max_output_tokens": 5, "temperature": 0.7}},
    {"type": "response.cancel"},
    {"type": "response.cancel", "response_id": "resp_1"},
    {"type": "nonsense"},
)
"""Valid events of a Realtime client, and one of an unknown type."""

CHAT_REQUEST: dict[str, Any] = {
    "model": "chroma-1.0",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "how are you?"},
    ],
    "modalities": ["text", "audio"],
    "audio": {"voice": "ada", "format": "wav"},
    "stream": False,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 50,
    "seed": 3,
    "max_tokens": 20,
    "max_completion_tokens": 20,
    "metadata": {"a": "b"},
    "user": "u",
}
CHAT_REQUESTS: tuple[dict[str, Any], ...] = (
    CHAT_REQUEST,
    {**CHAT_REQUEST, "stream": True, "stream_options": {"include_usage": True}},
    {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": _AUDIO}}]}]},
    {
        "messages": [{"role": "user", "content": [{"type": "audio", "audio": _AUDIO}]}],
        "prompt_text": "hello",
        "prompt_audio": _AUDIO,
        "return_audio": True,
    },
)
SPEECH_REQUESTS: tuple[dict[str, Any], ...] = (
    {
        "model": "m",
        "input": "hello",
        "voice": "ada",
        "response_format": "pcm",
        "speed": 1,
        "temperature": 0.7,
        "seed": 1,
    },
    {"input": "hello", "voice": {"id": "ada"}, "response_format": "wav", "stream_format": "sse"},
)

_PLACEHOLDER = "\ue000"


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of each part of a JSON value, itself first."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from _places(part, (*path, name))


def _replaced(value: Any, path: tuple[str | int, ...], part: Any) -> Any:
    if not path:
        return part
    changed = copy.copy(value)
    changed[path[0]] = _replaced(value[path[0]], path[1:], part)
    return changed


@st.composite
def hostile_json(draw: st.DrawFn, requests: tuple[dict[str, Any], ...]) -> str:
    """The JSON text of one of the requests, in which a value was replaced, a field added, or nothing changed."""
    request = draw(st.sampled_from(requests))
    change = draw(st.sampled_from(("none", "replace", "replace", "add", "repeat")))
    path = draw(st.sampled_from(sorted(_places(request), key=str)))
    raw = draw(st.sampled_from(RAW_VALUES))
    if change == "none":
        return json.dumps(request)
    if change == "replace":
        return json.dumps(_replaced(request, path, _PLACEHOLDER), ensure_ascii=False).replace(f'"{_PLACEHOLDER}"', raw)
    name = draw(st.sampled_from(("event_id", "type", "extra", "", "\\ud800", "\\u0000", "x" * 300)))
    if change == "repeat":
        name = draw(st.sampled_from(sorted(request)))
    return json.dumps(request)[:-1] + f', "{name}": {raw}}}'


_TELLTALE = re.compile(
    r"unexpected(ly)? fail|failed unexpectedly|Traceback|File \"|0x[0-9a-f]{6}|<[a-z_]+(\.[a-zA-Z_]+)+ |127\.0\.0\.1|"
    rf"localhost|site-packages|{re.escape(str(ROOT))}|{re.escape(tempfile.gettempdir())}/|[A-Z][a-zA-Z]+(Error|Exception)\b"
)


def assert_tells_nothing(text: str) -> None:
    """Check that a message to a client names no bug, address, path, Python object or Python class."""
    found = _TELLTALE.search(text)
    assert found is None, text[max(0, found.start() - 200) : found.end() + 200]
