"""Which chat requests are valid, and what they ask for."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.api.errors import BadParameter, TooLarge
from gateway.api.openai.chat_request import ChatRequest, decode_recording
from gateway.audio.read import MAX_FILE_BYTES


def _request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": "hi"}], **fields})


def test_temperature_0_is_allowed_because_it_asks_for_greedy() -> None:
    assert _request(temperature=0).temperature == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -0.1},
        {"temperature": float("inf")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"n": 2},
        {"messages": []},
        {"no_such_field": 1},
    ],
    ids=str,
)
def test_values_out_of_range_and_unknown_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _request(**fields)


@pytest.mark.parametrize(
    ("fields", "spoken"),
    [
        ({}, False),
        ({"audio": {}}, True),
        ({"audio": {}, "modalities": ["text"]}, False),
        ({"modalities": ["text", "audio"]}, True),
        ({"prompt_audio": "AAAA", "prompt_text": "hi"}, True),
        ({"return_audio": False, "audio_format": "wav"}, False),
    ],
    ids=str,
)
def test_a_reply_is_spoken_when_modalities_audio_or_flashlabs_fields_say_so(
    fields: dict[str, Any], spoken: bool
) -> None:
    assert _request(**fields).spoken is spoken


def test_the_voice_and_the_file_format_come_from_audio_first() -> None:
    assert (_request().voice, _request().file_format) == ("", "wav")
    assert _request(audio_format="mp3").file_format == "mp3"
    asked = _request(audio={"voice": {"id": "ada"}, "format": "flac"}, audio_format="mp3")
    assert (asked.voice, asked.file_format) == ("ada", "flac")


def test_a_recording_is_base64_or_a_data_uri() -> None:
    text = base64.b64encode(b"file").decode()
    assert decode_recording(text, "field") == decode_recording(f"data:audio/wav;base64,{text}", "field") == b"file"


def test_a_path_is_no_recording_and_a_large_file_is_too_large() -> None:
    with pytest.raises(BadParameter, match="reads no paths") as refused:
        decode_recording("/etc/passwd.wav", "prompt_audio")
    assert refused.value.param == "prompt_audio"
    with pytest.raises(TooLarge):
        decode_recording(base64.b64encode(bytes(MAX_FILE_BYTES + 1)).decode(), "prompt_audio")
