"""Which speech requests are valid, and what is refused before a turn begins."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from chroma.v1 import generation_pb2
from gateway.api.openai.audio.speech import SpeechRequest, VoiceById, as_file
from gateway.conversation.output.events import Event, Outcome, TurnDone
from gateway.pipeline.deltas import AudioDelta
from services.common.errors import OutOfRange


def test_a_text_alone_is_enough() -> None:
    request = SpeechRequest.model_validate({"input": "hello"})
    assert (request.voice, request.response_format, request.stream_format) == ("", "mp3", None)
    assert (request.temperature, request.seed) == (None, None)


def test_a_voice_is_an_id_or_an_object_with_an_id() -> None:
    assert SpeechRequest.model_validate({"input": "hello", "voice": {"id": "ada"}}).voice == VoiceById(id="ada")


@pytest.mark.parametrize(
    "fields",
    [{"input": ""}, {"speed": 4.5}, {"temperature": 0}, {"seed": 2**64}, {"response_format": "midi"}, {"pitch": 1}],
    ids=str,
)
def test_values_out_of_range_and_unknown_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SpeechRequest.model_validate({"input": "hello", **fields})


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"temperature": 0}, 400, "temperature"),
        ({"voice": "zoe"}, 404, None),
        ({"input": "too long " * 10_000}, 400, "input"),
        ({"input": "..."}, 400, "input"),
        ({"input": "![](a.png)"}, 400, "input"),
    ],
    ids=["temperature", "voice", "too long", "no letter", "a picture alone"],
)
async def test_an_error_names_the_field(
    http: httpx.AsyncClient, fields: dict[str, Any], status: int, param: str | None
) -> None:
    response = await http.post("/v1/audio/speech", json={"input": "hello", **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


async def test_a_file_of_speech_that_a_limit_cuts_breaks_off() -> None:
    async def events() -> AsyncGenerator[Event, None]:
        yield AudioDelta("turn-1", 0, 100, b"\0\0" * 100)
        yield TurnDone(
            "turn-1", Outcome.COMPLETED, text="one two", heard_text="one", speech_end=generation_pb2.END_REASON_LIMIT
        )

    file = as_file(events(), "pcm", None)
    assert await anext(file)
    with pytest.raises(OutOfRange, match="before the end of the text"):
        await anext(file)
