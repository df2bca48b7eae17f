"""/v1/audio/speech, with OpenAI's own Python client where it has what is tested."""

from __future__ import annotations

import io
import json
import wave
from typing import Any

import httpx
import openai
import pytest
import soundfile
from openai import AsyncOpenAI

from chroma.v1.generation_pb2 import END_REASON_LIMIT
from gateway.audio.decode import decoded
from services.common.errors import ResourceExhausted
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import new_voice


def sound_of(data: bytes) -> int:
    """Samples of an audio file at 24 kHz."""
    sound, rate_hz = soundfile.read(io.BytesIO(data))
    assert rate_hz == 24_000
    return len(sound)


@pytest.mark.parametrize("file_format", ["wav", "pcm", "flac", "mp3", "opus"])
async def test_a_text_is_spoken_in_each_format(sdk: AsyncOpenAI, fakes: Fakes, file_format: Any) -> None:
    answer = await sdk.audio.speech.create(model="tts-1", voice="ada", input="Hello.", response_format=file_format)
    data = answer.content
    samples = len(data) // 2 if file_format == "pcm" else sound_of(data)
    assert 2 * 1920 <= samples - 2 * 1920 < 2 * 1920 + 3_000  # "Hello." is one thought, and im_end another
    assert fakes.reasoner.script.opened[-1].session_id == ""


async def test_speech_streams_while_it_is_made(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 2
    streaming = sdk.audio.speech.with_streaming_response
    async with streaming.create(model="tts-1", voice="alloy", input="Hello.", response_format="pcm") as answer:
        pieces = answer.iter_bytes(2 * 1920)
        assert len(await anext(pieces)) == 2 * 1920
        await fakes.codec.script.held.wait()
        fakes.codec.script.go.set()
        assert sum([len(piece) async for piece in pieces]) == 3 * 2 * 1920


async def test_a_wav_file_has_its_length_unless_it_is_asked_for_as_a_stream(http: httpx.AsyncClient) -> None:
    body = {"voice": "ada", "input": "Hello.", "response_format": "wav"}
    samples = (await http.post("/v1/audio/speech", json={**body, "response_format": "pcm"})).content
    for fields, frames in (({}, len(samples) // 2), ({"stream_format": "audio"}, 0x7FFF_FFFF)):
        answer = await http.post("/v1/audio/speech", json={**body, **fields})
        with wave.open(io.BytesIO(answer.content)) as file:
            assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (frames, 24_000, 1)
            assert len(file.readframes(len(samples))) == len(samples)


async def test_speech_is_streamed_as_aac(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 2
    body = {"voice": "ada", "input": "Hello.", "response_format": "aac"}
    async with http.stream("POST", "/v1/audio/speech", json=body) as answer:
        assert answer.headers["content-type"] == "audio/aac"
        pieces = answer.aiter_bytes()
        file = await anext(pieces)
        await fakes.codec.script.held.wait()
        fakes.codec.script.go.set()
        file += b"".join([piece async for piece in pieces])
    assert file[:2] == b"\xff\xf1"
    assert 4 * 1920 <= sum(len(samples) for _, samples in decoded(file)) < 4 * 1920 + 3_000


async def test_speech_comes_as_events_too(http: httpx.AsyncClient) -> None:
    body = {"model": "m", "voice": "ada", "input": "Hi", "response_format": "pcm", "stream_format": "sse"}
    answer = await http.post("/v1/audio/speech", json=body)
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    assert events[-1]["type"] == "speech.audio.done"
    assert events[-1]["usage"]["input_tokens"] == 30
    assert (events[-1]["status"], events[-1]["status_details"]) == ("completed", None)


async def test_the_last_event_of_speech_tells_when_a_limit_cut_it(start_gateway: StartGateway, fakes: Fakes) -> None:
    fakes.speech_gen.script.end_reason = END_REASON_LIMIT
    async with (
        start_gateway(max_reply_s=0.32) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http,
    ):
        await client.voices.CreateVoice(new_voice("ada"))
        answer = await http.post("/v1/audio/speech", json={"input": "Hello, dear world.", "stream_format": "sse"})
    done = json.loads(answer.text.splitlines()[-2].removeprefix("data: "))
    assert (done["type"], done["status"]) == ("speech.audio.done", "incomplete")
    assert done["status_details"]["reason"] == "max_output_tokens"


async def test_speech_is_made_speakable_unless_it_is_to_be_spoken_as_written(
    http: httpx.AsyncClient, fakes: Fakes
) -> None:
    for fields in ({}, {"verbatim": True}, {"language": "de"}):
        answer = await http.post("/v1/audio/speech", json={"input": "**7** kg", **fields})
        assert answer.status_code == 200
    assert fakes.reasoner.script.spoken[-3:] == ["seven kilograms", "**7** kg", "sieben Kilogramm"]


async def test_a_text_longer_than_a_reply_is_spoken_whole_in_segments(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    sentence = "This is one of many sentences. "
    async with (
        start_gateway(max_reply_s=5.0) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http,
    ):
        await client.voices.CreateVoice(new_voice("ada"))
        answer = await http.post("/v1/audio/speech", json={"input": sentence * 5, "response_format": "pcm"})
    assert answer.status_code == 200
    assert "".join(fakes.reasoner.script.spoken) == (sentence * 5).strip()
    assert len(fakes.reasoner.script.spoken) == 5


async def test_parameters_of_speech_without_effect_are_accepted_and_named(sdk: AsyncOpenAI) -> None:
    speak = sdk.audio.speech.with_raw_response.create
    told = await speak(model="m", voice="ada", input="Hi", instructions="cheerful", speed=1.25)
    plain = await speak(model="m", voice="ada", input="Hi", speed=1.0)
    assert told.headers["x-ignored-parameters"] == "instructions, speed"
    assert "x-ignored-parameters" not in plain.headers


async def test_a_client_that_hangs_up_frees_the_turn(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 1
    body = {"input": "Hello.", "response_format": "pcm"}
    async with http.stream("POST", "/v1/audio/speech", json=body) as answer:
        assert answer.status_code == 200
        await anext(answer.aiter_bytes(1))
    await fakes.all_freed()


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": " \n"}, 400, "input"),
        ({"input": "..."}, 400, "input"),
        ({"input": "😀"}, 400, "input"),
        ({"input": "hi", "response_format": "midi"}, 400, "response_format"),
        ({"input": "hi", "speed": 5}, 400, "speed"),
        ({"input": "hi", "speed": 0.1}, 400, "speed"),
        ({"input": "hi", "pitch": 2}, 400, "pitch"),
        ({"input": "hi", "voice": "unknown"}, 404, None),
        ({"input": "hi", "voice": "/etc/passwd"}, 400, None),
        ({}, 400, "input"),
    ],
)
async def test_bad_speech_requests_are_refused_in_openais_shape(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, param: str | None
) -> None:
    answer = await http.post("/v1/audio/speech", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (status, param, "invalid_request_error")


async def test_a_full_service_is_429_with_the_time_to_wait(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    fakes.speech_gen.script.failures = [ResourceExhausted("no slot", retry_after_s=2.0)]
    with pytest.raises(openai.RateLimitError) as refused:
        await sdk.audio.speech.create(model="m", voice="ada", input="Hello.")
    assert refused.value.response.headers["retry-after"] == "2"


async def test_a_text_to_speak_has_the_length_limit_of_the_settings(start_gateway: StartGateway) -> None:
    async with (
        start_gateway(max_input_chars=10) as strict,
        httpx.AsyncClient(base_url=f"http://{strict.http_address}", timeout=60) as http,
    ):
        await strict.voices.CreateVoice(new_voice("ada"))
        long = await http.post("/v1/audio/speech", json={"input": "eleven char"})
        assert (long.status_code, long.json()["error"]["param"]) == (400, "input")
        assert (await http.post("/v1/audio/speech", json={"input": "ten chars."})).status_code == 200
