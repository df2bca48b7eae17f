"""Which chat requests are valid, and what they ask for."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.api.errors import BadParameter, TooLarge
from gateway.api.openai.chat.request import ChatRequest, decode_recording
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
        {"seed": -(2**63) - 1},
        {"seed": 2**64},
        {"n": 0},
        {"messages": []},
        {"no_such_field": 1},
    ],
    ids=str,
)
def test_values_out_of_range_and_unknown_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _request(**fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True, "top_logprobs": 2}, "logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
    ],
    ids=str,
)
def test_what_a_client_would_miss_in_the_answer_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadParameter) as refused:
        _request(**fields).check()
    assert (refused.value.param, refused.value.code) == (param, "unsupported_value")


def test_values_that_ask_for_nothing_are_accepted_and_not_named() -> None:
    nothing = _request(
        n=1,
        stream=None,
        stream_options=None,
        stop=None,
        logprobs=False,
        top_logprobs=0,
        frequency_penalty=0,
        presence_penalty=0.0,
        logit_bias={},
        reasoning_effort=None,
        verbosity="medium",
        response_format={"type": "text"},
        user="u",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        safety_identifier="s",
        prompt_cache_key="k",
        tools=[],
        tool_choice="auto",
    )
    nothing.check()
    assert nothing.ignored == []


def test_what_has_no_effect_is_named() -> None:
    asked = {
        "service_tier": "flex",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"ttl": "30m"},
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "logit_bias": {"50256": -100},
        "reasoning_effort": "low",
        "verbosity": "low",
        "prediction": {"type": "content", "content": "x"},
    }
    wanted = _request(audio={}, temperature=0.5, **asked)
    wanted.check()
    assert wanted.ignored == [*asked]


def test_the_text_of_a_reply_is_not_sampled() -> None:
    sampling = {"temperature": 0.5, "top_p": 0.5, "top_k": 5, "seed": -7}
    assert _request(**sampling).ignored == [*sampling]
    assert _request(**sampling, modalities=["text", "audio"]).ignored == []


@pytest.mark.parametrize(("stop", "stops"), [(None, ()), ("a", ("a",)), (["a", "b"], ("a", "b")), ([], ())], ids=str)
def test_stop_is_a_text_or_a_list_of_them(stop: Any, stops: tuple[str, ...]) -> None:
    assert _request(stop=stop).stops == stops


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


async def test_a_recording_is_base64_or_a_data_uri() -> None:
    text = base64.b64encode(b"file").decode()
    assert await decode_recording(text, "field") == b"file"
    assert await decode_recording(f"data:audio/wav;base64,{text}", "field") == b"file"


async def test_a_path_is_no_recording_and_a_large_file_is_too_large() -> None:
    for path in ("/etc/passwd.wav", "/etc/passwd", "../sound.wav", "C:\\sound.wav", "file:///sound.wav"):
        with pytest.raises(BadParameter, match="reads no paths") as refused:
            await decode_recording(path, "prompt_audio")
        assert refused.value.param == "prompt_audio"
    with pytest.raises(TooLarge):
        await decode_recording(base64.b64encode(bytes(MAX_FILE_BYTES + 1)).decode(), "prompt_audio")
