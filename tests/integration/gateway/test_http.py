"""Voices, speech, chat, models and health over HTTP, with OpenAI's own Python client where it has them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import resource
import wave
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.generation_pb2 import END_REASON_LIMIT
from gateway.audio.decode import decoded
from gateway.audio.read import MAX_FILE_BYTES
from services.common.errors import ResourceExhausted
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_services import REPLY
from tests.support.gateway_client import Client, audio_file, new_voice, speech
from tests.support.recordings import by_ffmpeg

RECORDING = audio_file(speech(2, rate_hz=24_000))
SPOKEN = 12 * 1920


@pytest.fixture
async def http(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of the gateway."""
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
        yield http


@pytest.fixture
async def sdk(client: Client) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client of the gateway."""
    async with AsyncOpenAI(api_key="none", base_url=f"http://{client.http_address}/v1", max_retries=0) as sdk:
        yield sdk


def sound_of(data: bytes) -> int:
    """Samples of an audio file at 24 kHz."""
    sound, rate_hz = soundfile.read(io.BytesIO(data))
    assert rate_hz == 24_000
    return len(sound)


def b64(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


# Voices.


async def test_a_voice_is_uploaded_read_listed_and_deleted(http: httpx.AsyncClient) -> None:
    form = {"voice_id": "grace", "name": "Grace", "transcript": "hello", "consent": "Grace agreed"}
    created = await http.post("/v1/voices", data=form, files={"file": ("v.wav", RECORDING, "audio/wav")})
    assert created.status_code == 201
    assert created.json()["duration_s"] == 2.0
    assert (await http.get("/v1/voices/grace")).json() == created.json()
    listed = (await http.get("/v1/voices?limit=1")).json()
    assert ([voice["id"] for voice in listed["data"]], listed["has_more"]) == (["ada"], True)
    after = (await http.get("/v1/voices?limit=1&after=ada")).json()
    assert ([voice["id"] for voice in after["data"]], after["has_more"]) == (["grace"], False)
    assert (await http.delete("/v1/voices/grace")).json()["deleted"] is True
    assert (await http.get("/v1/voices/grace")).status_code == 404


@pytest.mark.parametrize(
    ("form", "file", "status", "says"),
    [
        ({"transcript": "hello"}, RECORDING, 400, "consent"),
        ({"consent": "yes"}, RECORDING, 400, "transcript"),
        ({"transcript": "hello", "consent": "yes"}, None, 400, "file"),
        ({"transcript": "hello", "consent": "yes"}, b"/etc/passwd", 400, "WAV"),
        ({"transcript": "hello", "consent": "yes", "voice_id": "ada"}, RECORDING, 409, "exists"),
        ({"transcript": "hello", "consent": "yes", "voice_id": "../x"}, RECORDING, 400, "voice id"),
        ({"transcript": "hello", "consent": "yes", "path": "/x"}, RECORDING, 400, "unknown field"),
    ],
)
async def test_bad_uploads_are_refused(
    http: httpx.AsyncClient, form: dict[str, str], file: bytes | None, status: int, says: str
) -> None:
    files: Any = {"file": ("v.wav", file)} if file is not None else {"name": (None, "x")}
    answer = await http.post("/v1/voices", data=form, files=files)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


async def test_an_oversize_upload_is_413_whether_or_not_it_states_its_length(http: httpx.AsyncClient) -> None:
    form = {"voice_id": "big", "transcript": "hello", "consent": "yes"}

    async def post(file_bytes: int, *, chunked: bool) -> httpx.Response:
        request = http.build_request("POST", "/v1/voices", data=form, files={"file": ("v.wav", bytes(file_bytes))})
        if not chunked:
            return await http.send(request)
        body = request.read()

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 1 << 20):
                yield body[start : start + (1 << 20)]

        return await http.post(
            "/v1/voices", content=pieces(), headers={"content-type": request.headers["content-type"]}
        )

    for file_bytes, chunked in (
        (MAX_FILE_BYTES + 1, False),  # in a form of a good length
        (MAX_FILE_BYTES + 2_000_000, False),
        (33 << 20, False),  # above the limit of any body
        (33 << 20, True),
    ):
        answer = await post(file_bytes, chunked=chunked)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (413, "too_large", "invalid_request_error")


# Speech.


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


# Chat.


async def test_a_spoken_question_gets_a_spoken_answer(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    question = {"type": "input_audio", "input_audio": {"data": b64(RECORDING), "format": "wav"}}
    answer = await sdk.chat.completions.create(
        model="gpt-audio",
        modalities=["text", "audio"],
        audio={"voice": "ada", "format": "wav"},
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": [question]}],  # type: ignore[list-item]
    )
    audio = answer.choices[0].message.audio
    assert audio is not None
    assert audio.transcript == "".join(REPLY)
    assert sound_of(base64.b64decode(audio.data)) == SPOKEN
    assert (answer.choices[0].finish_reason, answer.usage and answer.usage.prompt_tokens) == ("stop", 30)
    opened = fakes.reasoner.script.opened[-1]
    assert (opened.session_id, opened.system_prompt) == ("", "Be brief.")
    assert sum(len(piece) for piece in fakes.reasoner.script.heard) == 2 * 16_000 * 4
    follow_up = await sdk.chat.completions.create(
        model="gpt-audio",
        messages=[
            {"role": "user", "content": "one"},
            {"role": "assistant", "audio": {"id": audio.id}},
            {"role": "user", "content": "two"},
        ],
    )
    assert follow_up.choices[0].message.content == "".join(REPLY)
    past = [part.text for message in fakes.reasoner.script.opened[-1].history for part in message.parts]
    assert past == ["one", "".join(REPLY)]


async def test_an_answer_streams_text_and_sound(sdk: AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="gpt-audio",
        modalities=["text", "audio"],
        audio={"voice": "ada", "format": "pcm16"},
        messages=[{"role": "user", "content": "question"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    deltas: list[Any] = [chunk.choices[0].delta.to_dict().get("audio", {}) for chunk in chunks if chunk.choices]
    assert "".join(delta.get("transcript", "") for delta in deltas) == "".join(REPLY)
    assert len(b"".join(base64.b64decode(delta.get("data", "")) for delta in deltas)) == 2 * SPOKEN
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(REPLY) + 1 + 12
    assert chunks[-1].usage.completion_tokens_details is not None
    assert chunks[-1].usage.completion_tokens_details.audio_tokens == 12


async def test_a_written_answer_is_not_spoken(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    before = len(fakes.speech_gen.script.opened)
    stream = await sdk.chat.completions.create(
        model="any", messages=[{"role": "user", "content": "question"}], stream=True
    )
    words = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(words) == "".join(REPLY)
    assert len(fakes.speech_gen.script.opened) == before


@pytest.mark.parametrize("prefix", ["", "data:audio/wav;base64,"])
async def test_a_request_to_the_existing_chroma_server_works_with_recordings_in_base64(
    http: httpx.AsyncClient, client: Client, prefix: str
) -> None:
    body = {
        "model": "chroma",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": [{"type": "audio", "audio": prefix + b64(RECORDING)}]},
        ],
        "prompt_text": "hello",
        "prompt_audio": prefix + b64(RECORDING),
        "prompt_consent": "Ada agreed in writing",
        "max_tokens": 1000,
        "temperature": 1.0,
        "top_p": 1.0,
        "return_audio": True,
    }
    answer = (await http.post("/v1/chat/completions", json=body)).json()
    assert sound_of(base64.b64decode(answer["audio"])) == SPOKEN
    assert answer["choices"][0]["message"]["content"] == "".join(REPLY)
    voices = await client.voices.ListVoices(pb.ListVoicesRequest())
    assert [voice.voice_id for voice in voices.voices] == ["ada"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"functions": [{"name": "look"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"messages": [{"role": "user", "content": [{"type": "audio", "audio": "/etc/x"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"prompt_text": "x"}, "prompt_text"),
        ({"prompt_text": "x", "prompt_audio": "/etc/passwd", "prompt_consent": "agreed"}, "prompt_audio"),
        ({"prompt_text": "x", "prompt_audio": "UklGRg=="}, "prompt_consent"),
        ({"prompt_text": "x", "prompt_audio": "UklGRg==", "prompt_consent": " "}, "prompt_consent"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "n"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"temperature": -1}, "temperature"),
        ({"messages": [{"role": "user", "content": "hi"}] * 1_001}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}] * 1_001}]}, "messages"),
    ],
)
async def test_bad_chats_are_refused_in_openais_shape(
    http: httpx.AsyncClient, change: dict[str, Any], param: str
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **change}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(param)


async def test_many_small_files_that_hold_hours_of_audio_are_413_before_they_are_decoded(
    http: httpx.AsyncClient,
) -> None:
    """A FLAC file of a constant takes 4 kB for two minutes, which are 7.7 MB of samples."""
    file = b64(audio_file(np.full(8_000 * 119, 0.25, np.float32), 8_000, format="FLAC", subtype="PCM_16"))
    parts = [{"type": "audio", "audio": file}] * 400
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = {"modalities": ["text"], "messages": [{"role": "user", "content": parts}]}
    answer = await http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    assert grown_mb < 400, f"400 parts together are 3,000 MB of samples; the process grew by {grown_mb:.0f} MB"


async def test_a_chat_is_decoded_in_a_seat(start_gateway: StartGateway) -> None:
    async with (
        start_gateway(max_conversations=1) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http,
    ):
        await client.voices.CreateVoice(new_voice("ada"))
        broken = {"messages": [{"role": "user", "content": [{"type": "audio", "audio": b64(b"no recording")}]}]}
        async with client.converse():
            assert (await http.post("/v1/chat/completions", json=broken)).status_code == 429
        while (answer := await http.post("/v1/chat/completions", json=broken)).status_code == 429:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the seat is free once the gateway sees the end of the call
        assert answer.status_code == 400


async def test_a_browsers_recording_as_a_wrapped_data_url_is_answered(http: httpx.AsyncClient, fakes: Fakes) -> None:
    file = by_ffmpeg(np.pad(speech(2, rate_hz=48_000), (60 * 48_000, 0)), 48_000, "webm", "libopus")
    data = "data:audio/webm;codecs=opus;base64," + base64.encodebytes(file).decode()
    audio = {"type": "input_audio", "input_audio": {"data": data, "format": "webm"}}
    answer = await http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [audio]}]})
    assert answer.status_code == 200, answer.text
    heard = sum(len(piece) for piece in fakes.reasoner.script.heard) / 4 / 16_000
    assert heard == pytest.approx(3, abs=0.15)  # of a minute of silence before it, one second is kept


async def test_a_picture_in_a_chat_is_refused_by_its_name(http: httpx.AsyncClient) -> None:
    audio = {"type": "input_audio", "input_audio": {"data": b64(b"\x89PNG\r\n\x1a\n" + bytes(500)), "format": "wav"}}
    answer = await http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [audio]}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith("got a PNG picture")


async def test_an_oversize_recording_in_a_chat_is_413(http: httpx.AsyncClient) -> None:
    audio = {"type": "input_audio", "input_audio": {"data": b64(bytes(MAX_FILE_BYTES + 1))}}
    answer = await http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [audio]}]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "messages.0.content.0")


async def test_a_text_to_speak_has_the_length_limit_of_the_settings(start_gateway: StartGateway) -> None:
    async with (
        start_gateway(max_input_chars=10) as strict,
        httpx.AsyncClient(base_url=f"http://{strict.http_address}", timeout=60) as http,
    ):
        await strict.voices.CreateVoice(new_voice("ada"))
        long = await http.post("/v1/audio/speech", json={"input": "eleven char"})
        assert (long.status_code, long.json()["error"]["param"]) == (400, "input")
        assert (await http.post("/v1/audio/speech", json={"input": "ten chars."})).status_code == 200


async def test_a_body_that_is_too_large_or_not_json_is_refused(client: Client, start_gateway: StartGateway) -> None:
    async with (
        start_gateway(max_message_bytes=1_000) as small,
        httpx.AsyncClient(base_url=f"http://{small.http_address}", timeout=60) as http,
    ):
        as_json = {"content-type": "application/json"}
        assert (await http.post("/v1/audio/speech", content=b"{", headers=as_json)).status_code == 400
        answer = await http.post("/v1/audio/speech", content=bytes(2_000), headers=as_json)
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")
        assert (await http.get("/nowhere")).status_code == 404


# Models, health, documents, keys.


async def test_there_is_one_model(sdk: AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == ["chroma-1.0"]
    assert (await sdk.models.retrieve("chroma-1.0")).owned_by == "flashlabs"


async def test_health_is_the_gateways(http: httpx.AsyncClient, client: Client) -> None:
    assert (await http.get("/healthz")).json() == {
        "status": "healthy",
        "model_loaded": True,
        "waiting_for": [],
    }
    client.server.draining.set()
    assert (await http.get("/healthz")).status_code == 503


async def test_the_description_names_every_route(http: httpx.AsyncClient) -> None:
    description = (await http.get("/openapi.json")).json()
    assert "/v1/chat/completions" in description["paths"]
    text = json.dumps(description)
    for name in (part.split('"')[0] for part in text.split("#/components/schemas/")[1:]):
        assert name in description["components"]["schemas"]
    docs = await http.get("/docs")
    assert docs.status_code == 200
    assert "https://" not in docs.text  # nothing from elsewhere


async def test_a_key_gives_its_tenants_voices_and_a_caller_without_a_key_is_refused(
    start_gateway: StartGateway,
) -> None:
    async with start_gateway(api_keys='{"sk-a": "a", "sk-b": "b"}') as client:
        url = f"http://{client.http_address}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            assert (await http.get("/v1/voices")).status_code == 401
            wrong = await http.get("/v1/voices", headers={"Authorization": "Bearer sk-x"})
            assert (wrong.status_code, wrong.json()["error"]["type"]) == (401, "authentication_error")
            mine, theirs = {"Authorization": "Bearer sk-a"}, {"Authorization": "Bearer sk-b"}
            form = {"voice_id": "grace", "transcript": "hello", "consent": "yes"}
            files = {"file": ("v.wav", RECORDING)}
            assert (await http.post("/v1/voices", data=form, files=files, headers=mine)).status_code == 201
            assert (await http.get("/v1/voices/grace", headers=mine)).status_code == 200
            assert (await http.get("/v1/voices/grace", headers=theirs)).status_code == 404
        with pytest.raises(Exception, match="API key"):
            await client.voices.ListVoices(pb.ListVoicesRequest())
        metadata = (("authorization", "Bearer sk-a"), ("chroma-tenant", "b"))
        listed = await client.voices.ListVoices(pb.ListVoicesRequest(), metadata=metadata)
        assert [voice.voice_id for voice in listed.voices] == ["grace"]
        async with AsyncOpenAI(api_key="sk-b", base_url=f"{url}/v1") as sdk:
            with pytest.raises(InvalidStatus) as refused:  # before the upgrade, after which clients would try again
                async with sdk.realtime.connect(model="m"):
                    pass
        assert refused.value.response.status_code == 409
        error = json.loads(refused.value.response.body)["error"]
        assert error["code"] == "failed_precondition"  # no voice of its own yet
        assert "no voice is enrolled yet" in error["message"]
        browser = {"origin": url, "authorization": "Bearer sk-b"}
        async with connect(f"ws://{client.http_address}/v1/realtime", additional_headers=browser) as socket:
            assert json.loads(await socket.recv())["error"]["code"] == "failed_precondition"
        assert await client.health() == "SERVING"
